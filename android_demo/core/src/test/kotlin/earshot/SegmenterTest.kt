package earshot

import earshot.decoding.Emission
import earshot.decoding.EndpointRules
import earshot.decoding.ScriptedSearch
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** Words, times, confidence and endpoints of 200 scripted searches: those of Python. */
class SegmenterTest {
    @Test
    fun `scripted searches give the events of Python`() {
        val scripts = goldenScripts("segments")
        assertEquals(200, scripts.size)
        for ((number, row) in scripts.withIndex()) {
            val golden = row.getJSONObject("golden")
            val found = run(row.getJSONObject("script"))
            assertSame(golden, found, "script $number")
        }
    }

    private fun run(script: JSONObject): Map<String, Any?> {
        val emissions = script.getJSONArray("emissions").map {
            val (frame, token, logProb) = doubles(it as JSONArray).toList()
            Emission(token.toInt(), frame.toInt(), logProb)
        }
        val rules = if (script.isNull("rules")) null else rulesOf(script.getJSONObject("rules"))
        val search = ScriptedSearch(emissions, script.getInt("lag"))
        val segmenter = Segmenter(search, Transcript(PIECES, FRAME_S), FRAME_S, rules)
        val events = ArrayList<Event>()
        var frames = 0
        for (chunk in ints(script.getJSONArray("chunks"))) {
            frames += chunk
            segmenter.accept(Frames(1).apply { resize(chunk) }, frames * FRAME_S, events)
        }
        val tokens = segmenter.tokens
        segmenter.finish(frames * FRAME_S, events)
        return mapOf(
            "events" to events.map(::plain),
            "open_tokens" to tokens.map(::plain),
            "text" to segmenter.text,
            "result" to plain(segmenter.result(frames * FRAME_S)),
        )
    }

    private companion object {
        const val FRAME_S = 0.04
        val PIECES = listOf("<blk>", "<unk>", "▁so", "▁me", "▁word", "s", "▁to", "ing", "▁he", "ar", "'ll", "▁")
    }
}

fun rulesOf(rules: JSONObject) =
    EndpointRules(rules.doubleOrNull("silence_s"), rules.doubleOrNull("pause_s"), rules.doubleOrNull("length_s"))
