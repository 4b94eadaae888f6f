package earshot.decoding

import earshot.Frames
import earshot.StreamingConfig
import earshot.assertSame
import earshot.framesOf
import earshot.goldenScripts
import earshot.ints
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** What the gate lets be skipped under 30 scripts of levels: what Python's does. */
class SilenceGateTest {
    @Test
    fun `the gate skips what Python's skips`() {
        val scripts = goldenScripts("gate")
        assertEquals(30, scripts.size)
        for ((number, row) in scripts.withIndex()) {
            assertSame(row.getJSONArray("golden"), run(row.getJSONObject("script")), "script $number")
        }
    }

    private fun run(script: JSONObject): List<List<Int>> {
        val low = ints(script.getJSONArray("low"))
        val high = ints(script.getJSONArray("high"))
        val tokens = ints(script.getJSONArray("tokens"))
        val chunk = script.getInt("chunk")
        val block = script.getInt("block")
        val features = FloatArray(80 * low.size) {
            (if (it % 80 < 40) low[it / 80] else high[it / 80]) / 16f - 16
        }
        val gate = SilenceGate(StreamingConfig())
        var passed = 0
        fun idle() = passed - (tokens.filter { it <= passed }.maxOrNull() ?: 0)
        return (low.indices step block).map { start ->
            val end = minOf(start + block, low.size)
            val frames: Frames = framesOf(features.copyOfRange(80 * start, 80 * end), 80)
            gate.accept(frames, 0)
            var skipped = gate.skippable(idle(), ended = end == low.size)
            skipped -= skipped % chunk
            gate.passOn(skipped)
            passed += skipped
            var encoded = 0
            while (!gate.isClosed(idle()) && end / 4 - passed >= chunk) {
                gate.passOn(chunk)
                passed += chunk
                encoded += chunk
            }
            listOf(skipped, encoded)
        }
    }
}
