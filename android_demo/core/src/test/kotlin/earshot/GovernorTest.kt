package earshot

import earshot.decoding.GreedySearch
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** Every decision of the governor on 1,000 scripted meters, and of admission: those of Python. */
class GovernorTest {
    @Test
    fun `a thousand meters lead to the decisions of Python`() {
        val scripts = goldenScripts("governor")
        assertEquals(1000, scripts.size)
        val (loads, queues) = goldenArrays("scripts/governor.npz", "load", "queue").map { it.longs() }
        var start = 0
        for ((number, row) in scripts.withIndex()) {
            val script = row.getJSONObject("script")
            assertSame(row.getJSONArray("golden"), run(script, loads, queues, start), "meter $number", tolerance = 0.0)
            start += script.getInt("steps")
        }
        assertEquals(loads.size, start)
    }

    private fun run(script: JSONObject, loads: LongArray, queues: LongArray, start: Int): List<Map<String, Any?>> {
        val ladder = ints(script.getJSONArray("chunks_ms")).map(::OperatingPoint)
        val costs = doubles(script.getJSONArray("costs"))
        val dearer = doubles(script.getJSONArray("dearer"))
        val governor = Governor(
            Budget(script.doubleOrNull("rtf"), latencyMs = script.doubleOrNull("latency_ms")),
            ladder.zip(costs.toList()).toMap(),
            ladder[script.getInt("start")],
            ladder[script.getInt("preferred")],
        )
        val decisions = ArrayList<Map<String, Any?>>()
        var timeS = 0.0
        var number = 0
        while (true) {
            val step = (timeS / 2).toInt()
            if (step >= script.getInt("steps")) return decisions
            val here = ladder.indexOf(governor.point)
            val audioS = governor.point.chunkMs / 1000.0
            val jitter = 1 + (number * 7 % 5 - 2) / 20.0
            val load = loads[start + step] / 32.0 * dearer[here] * jitter
            timeS += audioS
            number++
            val chunk = Measurement(
                timeS, governor.point, audioS, load * costs[here] * audioS, queues[start + step] / 8.0,
            )
            governor.observe(chunk)?.let { decisions += plain(it) }
        }
    }

    @Test
    fun `streams are admitted and refused as in Python`() {
        val scripts = goldenScripts("admissions")
        assertEquals(300, scripts.size)
        for ((number, row) in scripts.withIndex()) {
            assertSame(row.getJSONObject("golden"), admission(row.getJSONObject("script")), "admission $number")
        }
    }

    /** What an earlier stream left in the engine is not held against the next one, which would shed it too. */
    @Test
    fun `memory that can be given back refuses no stream`() {
        val engine = SilentEngine()
        val points = CHUNKS_MS.map(::OperatingPoint)
        var heldMb = 0.0
        val admission = Admission(engine, points, { silentStream(engine) }) { if (engine.released < 3) heldMb else 100.0 }
        heldMb = residentMb() + 5_000 // that the engine keeps
        val growthMb = admission.profile.growthMb.values.max() // which releases it twice
        assertEquals(2, engine.released)
        admission.admit(Budget(memoryMb = heldMb + growthMb + 1), points[1])
        assertEquals(2, engine.released, "there was room")
        val admitted = admission.admit(Budget(memoryMb = 101 + growthMb), points[1])
        assertEquals(3, engine.released)
        assertEquals(points[1], admitted.start)
        val refusal = assertThrows<BudgetError> { admission.admit(Budget(memoryMb = 99.0), points[1]) }
        assertTrue("memory_mb=99 can't be held: this process holds 100 MB" in refusal.message!!)
    }

    private fun silentStream(engine: SilentEngine) =
        Stream(engine, GreedySearch(engine), listOf("<blk>", "<unk>"), FeatureConfig(), StreamingConfig())

    private fun admission(script: JSONObject): Map<String, Any?> {
        val points = ints(script.getJSONArray("chunks_ms")).map(::OperatingPoint)
        fun byPoint(values: JSONArray) = points.zip(doubles(values).toList()).toMap()
        val budget = script.getJSONObject("budget")
        val limits = Budget(budget.doubleOrNull("rtf"), budget.doubleOrNull("memory_mb"), budget.doubleOrNull("latency_ms"))
        val profile = Profile(byPoint(script.getJSONArray("rtf")), byPoint(script.getJSONArray("growth_mb")))
        return try {
            val found = admit(limits, profile, OperatingPoint(script.getInt("wish_ms")), script.getDouble("held_mb"))
            mapOf(
                "start_ms" to found.start.chunkMs,
                "preferred_ms" to found.preferred.chunkMs,
                "ladder_ms" to found.rtf.keys.map { it.chunkMs },
                "growth_mb" to found.growthMb,
            )
        } catch (error: BudgetError) {
            mapOf("refusal" to error.message)
        }
    }
}
