package earshot

import java.io.File
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** Streams of real recordings through the real engine: the text, the times and the events of Python. */
class StreamTest {
    private val golden = goldenStreams()
    private val recordings = recordings()
    private val references = golden.getJSONObject("references")
    private val streams = (golden.keySet() - setOf("made_of", "onnxruntime", "references")).map(golden::getJSONObject)

    @Test
    fun `fp32 gives the events of Python, with its tokens, times and endpoints`() {
        load(exactBundle().path).use { recognizer ->
            assertTrue(streams.size >= 9)
            for (row in streams) {
                val scenario = row.getJSONObject("scenario")
                assertSame(
                    row.getJSONObject("golden").getJSONObject("fp32"),
                    run(recognizer, scenario),
                    scenario.getString("name"),
                    tolerance = 2e-3, // of confidence; times are multiples of 0.01 s
                )
            }
        }
    }

    /**
     * Two versions of onnxruntime don't round alike, so int8 is held against Python's by its errors. Single
     * words differ either way: 30 recordings of 634 words were 0.5 points apart, 100 of 3,052 words 0.1.
     */
    @Test
    fun `int8 makes the word errors of Python`() {
        load(BUILT_IN).use { recognizer ->
            val names = references.keys().asSequence().toList()
            val texts = names.map { name ->
                val expected = golden.getJSONObject(name).getJSONObject("golden").getJSONObject("int8")
                text(recognizer, recordings.getValue(name)) to finalText(expected.getJSONArray("events"))
            }
            assertSameErrorRate(names.map(references::getString), texts)
        }
    }

    @Test
    fun `int8 makes the word errors of Python on recordings of one's own`() {
        val folder = File("android_demo/build/texts")
        assumeTrue(folder.isDirectory, "no recordings in $folder: make test-android RECORDINGS=manifest.jsonl")
        val texts = JSONObject(File(folder, "texts.json").readText())
        load(BUILT_IN).use { recognizer ->
            val names = texts.keys().asSequence().toList()
            val archive = File(folder, "recordings.npz").readBytes()
            val pairs = names.map { name ->
                val samples = earshot.engines.readNpz(archive, name).single().longs()
                val heard = text(recognizer, ShortArray(samples.size) { samples[it].toShort() })
                heard to texts.getJSONObject(name).getString("text")
            }
            assertSameErrorRate(names.map { texts.getJSONObject(it).getString("reference") }, pairs)
        }
    }

    @Test
    fun `any rate is heard`() {
        val samples = recordings.getValue("rain")
        load(BUILT_IN).use { recognizer ->
            // Every third sample of a recording that was made at 48 kHz is the one that was shipped.
            val stream = recognizer.stream()
            val tripled = ShortArray(3 * samples.size) { samples[it / 3] }
            stream.accept(tripled, sampleRate = 48_000)
            val found = stream.finish()
            assertEquals(samples.size / 16_000.0, found.result.durationS, 1e-6)
            val reference = references.getString("rain")
            assertTrue(wordErrors(reference, found.text) <= wordErrors(reference, text(recognizer, samples)) + 2)
        }
    }

    @Test
    fun `a stream that has ended, or changes its rate, is refused`() {
        load(BUILT_IN).use { recognizer ->
            val stream = recognizer.stream()
            stream.accept(ShortArray(1_000))
            val rate = assertThrows<AudioError> { stream.accept(ShortArray(10), sampleRate = 8_000) }
            assertTrue("a block at 8000 Hz in a stream that began at 16000 Hz" in rate.message!!)
            assertEquals("", stream.finish().text)
            assertThrows<AsrError> { stream.accept(ShortArray(10)) }
            assertThrows<AsrError> { stream.finish() }
        }
        assertTrue("a chunk of 100 ms" in assertThrows<AsrError> { load(BUILT_IN, chunkMs = 100) }.message!!)
    }

    @Test
    fun `a budget is held or refused, and calibration says what could be`() {
        load(BUILT_IN).use { recognizer ->
            val refusal = assertThrows<BudgetError> { recognizer.stream(Budget(rtf = 1e-6)) }
            assertTrue("rtf=1e-06 can't be held" in refusal.message!!)
            val stream = recognizer.stream(Budget(rtf = 1000.0, latencyMs = 60_000.0))
            stream.accept(recordings.getValue("caravan"))
            assertTrue(stream.finish().text.isNotEmpty())
            val report = stream.report()
            assertEquals(CHUNKS_MS.map(::OperatingPoint), report.ladder)
            assertTrue(report.rtf > 0)
        }
    }

    private fun assertSameErrorRate(references: List<String>, texts: List<Pair<String, String>>) {
        val count = references.sumOf { words(it).size }
        val (found, expected) = references.zip(texts).map { (reference, pair) ->
            wordErrors(reference, pair.first) to wordErrors(reference, pair.second)
        }.unzip()
        val rate = 100.0 * found.sum() / count
        val pythons = 100.0 * expected.sum() / count
        println("WER of $count words: ${fixed(rate, 2)} % on the JVM, ${fixed(pythons, 2)} % in Python")
        // 0.3 points, or one error where that is less than a word: the rule of export/verify.py.
        val allowed = maxOf(1.0, 0.003 * count)
        assertTrue(abs(found.sum() - expected.sum()) <= allowed, "WER $rate %, Python's $pythons %")
        assertTrue(texts.all { it.first.isNotEmpty() || it.second.isEmpty() })
    }

    private fun text(recognizer: Recognizer, samples: ShortArray): String =
        recognizer.stream().let { stream ->
            stream.accept(samples)
            stream.finish().text
        }

    private fun finalText(events: JSONArray) =
        events.getJSONObject(events.length() - 1).getJSONObject("result").getString("text")

    private fun run(recognizer: Recognizer, scenario: JSONObject): Map<String, Any?> {
        val samples = scenario.getJSONArray("parts").map {
            if (it is String) recordings.getValue(it) else ShortArray(Math.rint((it as Number).toDouble() * 16_000).toInt())
        }.reduce { before, part -> before + part }
        val rules = if (scenario.isNull("endpoints")) null else rulesOf(scenario.getJSONObject("endpoints"))
        val stream = recognizer.stream(endpoints = rules, gate = scenario.getBoolean("gate"))
        val chunkFrames = ints(scenario.getJSONArray("chunk_frames"))
        val events = ArrayList<Event>()
        for ((number, start) in (samples.indices step scenario.getInt("block")).withIndex()) {
            stream.chunkFrames = chunkFrames[number % chunkFrames.size]
            events += stream.accept(samples.copyOfRange(start, minOf(start + scenario.getInt("block"), samples.size)))
        }
        val openTokens = stream.segmentTokens
        events += stream.finish()
        return mapOf(
            "events" to events.map(::plain),
            "skipped_s" to stream.skippedS,
            "segment_tokens" to openTokens.map(::plain),
        )
    }
}
