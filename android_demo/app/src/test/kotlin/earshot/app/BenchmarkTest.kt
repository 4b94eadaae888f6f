package earshot.app

import android.view.View
import earshot.AsrError
import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner

/** A phone whose battery gives 2 W at rest and 3 W at work, and grows warm. */
class FakeDevice(private val isPlugged: Boolean = false) : Device {
    override val platform = "Android 14 (API 34), arm64-v8a"
    override val processor = "a test"
    private var reads = 0

    override fun read(): Reading {
        reads++
        val watts = if (reads <= 60) 2.0 else 3.0
        return Reading(30.0 + 0.01 * reads, if (isPlugged) null else watts, 4.0, 90 - reads / 100, if (reads > 300) 2 else 0)
    }
}

/** The benchmark and its JSON, which `make test-android` then gives to `asr report`. */
@RunWith(RobolectricTestRunner::class)
class BenchmarkTest {
    private val model = File("asr/models/en")
    private val recordings by lazy { readRecordings(app.assets) }

    private fun keep(name: String, result: JSONObject) =
        File(System.getProperty("earshot.built"), name).writeText(result.toString(2))

    private fun value(result: JSONObject, row: String) = result.getJSONObject("rows").getJSONObject(row).getDouble("value")

    private fun reason(result: JSONObject, row: String) = result.getJSONObject("rows").getJSONObject(row).getString("reason")

    @Test
    fun `the short run has the rows of asr bench`() {
        val reached = ArrayList<Progress>()
        val result = Benchmark(model, recordings, FakeDevice(), watch = { reached += it }).runShort()
        keep(SHORT_RESULT, result)
        assertEquals("bench", result.getString("kind"))
        assertEquals(Progress.Pass(3, 3), reached.last())
        assertTrue(result.getBoolean("complete"))
        assertEquals(52.0, value(result, "words"), 0.0)
        assertTrue("the WER of these samples: ${value(result, "wer")}", value(result, "wer") in 0.01..0.4)
        assertEquals(1.0, value(result, "rtf") * value(result, "rtfx"), 0.5) // medians
        assertTrue(value(result, "chunk_ms_p50") <= value(result, "chunk_ms_p99"))
        val histogram = result.getJSONObject("chunk_ms_histogram")
        val counts = histogram.getJSONArray("counts").let { list -> (0 until list.length()).sumOf { list.getInt(it) } }
        val chunks = recordings.sumOf { it.samples.size / 5120 - 1 }
        assertEquals("every chunk of three passes", 3 * chunks, counts)
        assertEquals(histogram.getJSONArray("counts").length() + 1, histogram.getJSONArray("edges_ms").length())
    }

    @Test
    fun `a long run has its energy, temperatures and throttling`() {
        var now = 0L
        val benchmark = Benchmark(
            model,
            recordings.take(1),
            FakeDevice(),
            clock = { now.also { now += 50_000_000 } }, // 50 ms a look
            sleep = { now += it * 1_000_000 },
        )
        val result = benchmark.runSustained(600)
        keep(SUSTAINED_RESULT, result)
        assertEquals("sustained", result.getString("kind"))
        assertTrue(result.getBoolean("complete"))
        val rawMj = value(result, "energy_raw_mj_per_audio_s")
        assertEquals("3 W at work, 2 W at rest", 3.0, rawMj / value(result, "energy_mj_per_audio_s"), 1e-6)
        assertEquals(3000 * result.getDouble("seconds") / result.getDouble("audio_s"), rawMj, 1e-6)
        assertEquals(value(result, "mwh_per_audio_h") / 4, value(result, "mah_per_audio_h"), 1e-6)
        assertTrue(value(result, "throttled_at_s") in 200.0..400.0)
        assertTrue(value(result, "temp_end_c") > value(result, "temp_start_c"))
        assertTrue(result.getJSONArray("samples").length() > 100)
    }

    @Test
    fun `what can't be told has a reason`() {
        var now = 0L
        val result = Benchmark(
            model, recordings.take(1), FakeDevice(isPlugged = true), clock = { now.also { now += 50_000_000 } },
        ).runSustained(10)
        assertEquals("10 s are too short for a battery: 600 s needed", reason(result, "energy_mj_per_audio_s"))
        assertEquals("it was not throttled", reason(result, "throttled_at_s"))
    }

    @Test
    fun `a run that is stopped at once has no result, and a bad model is an error`() {
        assertThrows(BenchmarkStopped::class.java) {
            Benchmark(model, recordings, FakeDevice(), isStopped = { true }).runShort()
        }
        assertThrows(AsrError::class.java) { Benchmark(File("nowhere"), recordings, FakeDevice()).runShort() }
    }

    @Test
    fun `the screen stops with the app, and says so`() {
        app.device = FakeDevice()
        val controller = Robolectric.buildActivity(BenchmarkActivity::class.java).setup()
        val run = controller.get().onRetainNonConfigurationInstance() as BenchmarkRun
        controller.get().findViewById<View>(R.id.run_sustained).performClick()
        await("some seconds") { run.progress is Progress.Second }
        controller.pause().stop()
        await("the end") { !run.isRunning }
        assertEquals(R.string.benchmark_background, run.notice?.text)
        assertEquals("sustained", run.result!!.getString("kind"))
        assertFalse(run.result!!.getBoolean("complete"))
        assertTrue(File(app.filesDir, SUSTAINED_RESULT).isFile)
    }
}
