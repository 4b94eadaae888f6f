package earshot

import earshot.decoding.Rule
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.fail

/** Holds what this implementation gives against what Python wrote, as plain data. */

/** An event as Python writes it: its fields and its type. */
fun plain(event: Event): Map<String, Any?> = mapOf("type" to event::class.simpleName) + fields(event)

fun plain(token: Token) =
    mapOf("piece" to token.piece, "time_s" to token.timeS, "confidence" to token.confidence)

fun plain(result: Result) = mapOf(
    "text" to result.text,
    "words" to result.words.map(::plain),
    "tokens" to result.tokens.map(::plain),
    "duration_s" to result.durationS,
    "confidence" to result.confidence,
)

private fun plain(word: Word) = mapOf(
    "text" to word.text,
    "start_s" to word.startS,
    "end_s" to word.endS,
    "confidence" to word.confidence,
)

private fun plain(point: OperatingPoint) = mapOf("chunk_ms" to point.chunkMs)

private fun plain(rule: Rule) = rule.title

private fun fields(event: Event): Map<String, Any?> = mapOf("time_s" to event.timeS) + when (event) {
    is Partial -> mapOf(
        "text" to event.text,
        "stable_text" to event.stableText,
        "new_words" to event.newWords.map(::plain),
    )
    is Endpoint -> mapOf(
        "rule" to plain(event.rule),
        "reason" to event.reason,
        "text" to event.text,
        "words" to event.words.map(::plain),
        "start_s" to event.startS,
        "end_s" to event.endS,
        "tokens" to event.tokens.map(::plain),
    )
    is Moved -> mapOf(
        "from_point" to plain(event.fromPoint),
        "to_point" to plain(event.toPoint),
        "reason" to event.reason,
    )
    is Overrun -> mapOf(
        "budget" to event.budget,
        "found" to event.found,
        "limit" to event.limit,
        "behind_s" to event.behindS,
        "action" to event.action,
        "refused_s" to event.refusedS,
    )
    is Final -> mapOf(
        "new_words" to event.newWords.map(::plain),
        "result" to plain(event.result),
        "endpoints" to event.endpoints.map(::fields),
        "decisions" to event.decisions.map(::fields),
    )
}

/** Fail unless [found] is [expected], numbers to within [tolerance]; [where] names it in the message. */
fun assertSame(expected: Any?, found: Any?, where: String, tolerance: Double = 1e-9) {
    when {
        expected is JSONObject && found is Map<*, *> -> {
            assertEquals(expected.keySet(), found.keys, where)
            for (key in expected.keys()) assertSame(expected.get(key), found[key], "$where.$key", tolerance)
        }
        expected is JSONArray && found is List<*> -> {
            for (i in 0 until minOf(expected.length(), found.size)) {
                assertSame(expected.get(i), found[i], "$where[$i]", tolerance)
            }
            assertEquals(expected.length(), found.size, where)
        }
        expected is Number && found is Number -> {
            val error = abs(expected.toDouble() - found.toDouble())
            if (!(error <= tolerance)) fail<Unit>("$where: expected $expected, found $found")
        }
        else -> assertEquals(if (expected == JSONObject.NULL) null else expected, found, where)
    }
}
