package earshot.decoding

import earshot.AsrError
import kotlin.math.ceil

/** When a segment of speech is over: three named rules, in seconds. */

/** What can end a segment: the rules of [EndpointRules], or the end of the stream. */
enum class Rule(val title: String) { SILENCE("silence"), PAUSE("pause"), LENGTH("length"), END("end") }

private const val ROUNDING_FRAMES = 1e-6 // 1.2 s in frames of 0.04 s are 30, not the 31 of rounding errors

/**
 * The rules by which a stream is cut into segments; null turns a rule off.
 *
 * Silence is what the search hears as such: encoder frames since its last token, or since the stream
 * began. Each rule fires at most once in a silence, whatever its length.
 */
data class EndpointRules(
    /** Nobody has spoken for so long, with words or without. */
    val silenceS: Double? = 2.4,
    /** So much silence behind at least one word. */
    val pauseS: Double? = 1.2,
    /**
     * So long after the first token of a segment, in the midst of speech. The segment ends before the
     * word that is being spoken, which begins the next one.
     */
    val lengthS: Double? = 20.0,
) {
    init {
        for ((name, seconds) in listOf("silence_s" to silenceS, "pause_s" to pauseS, "length_s" to lengthS)) {
            if (seconds != null && !(seconds > 0 && seconds.isFinite())) {
                throw AsrError("endpoint rule $name=$seconds; expected seconds above 0, or null for no rule")
            }
        }
    }
}

/** What the rules need to know of the open segment; frames are those since the stream began. */
class Segment(
    val silentFrom: Int, // the frame behind the last token of the stream, 0 before any
    val firstFrame: Int? = null, // of its first token
    val hasWholeWord: Boolean = false, // one that later tokens can't change
)

/** The rule that fires next, and how many frames of the stream must have been searched then. */
class DueEndpoint(val frame: Int, val rule: Rule)

/** Tells which rule fires, and how far may be searched before one can: a chunk may be longer. */
class EndpointDetector(rules: EndpointRules, frameS: Double) {
    private val silence = frames(rules.silenceS, frameS)
    private val pause = frames(rules.pauseS, frameS)
    private val length = frames(rules.lengthS, frameS)
    private var toldSilenceFrom: Int? = null // the silence in which `silence` has fired

    /**
     * Which rule fires next and at which frame unless a token comes first, in the past if a word had to
     * end before; null if no rule fires without another token.
     */
    fun due(segment: Segment): DueEndpoint? {
        var due: DueEndpoint? = null
        fun consider(frame: Int, rule: Rule) {
            if (due == null || frame < due!!.frame) due = DueEndpoint(frame, rule)
        }
        val first = segment.firstFrame
        if (silence != null && toldSilenceFrom != segment.silentFrom) {
            consider(segment.silentFrom + silence, Rule.SILENCE)
        }
        if (pause != null && first != null) consider(segment.silentFrom + pause, Rule.PAUSE)
        if (length != null && first != null && segment.hasWholeWord) consider(first + length, Rule.LENGTH)
        return due
    }

    /**
     * How many frames behind the first [frames] of the stream can be searched before a rule may fire,
     * whatever is found in them.
     */
    fun horizon(segment: Segment, frames: Int, atMost: Int): Int {
        var near = atMost
        for (rule in arrayOf(silence, pause, length)) if (rule != null) near = minOf(near, rule)
        due(segment)?.let { near = minOf(near, it.frame - frames) }
        val first = segment.firstFrame
        // When it is long, the next token may end the word that `length` waits for.
        if (length != null && first != null) near = minOf(near, first + length - frames)
        return maxOf(1, near)
    }

    /** Say that an endpoint was made of what was due. */
    fun fired(rule: Rule, segment: Segment) {
        if (rule == Rule.SILENCE) toldSilenceFrom = segment.silentFrom
    }

    private companion object {
        /** Whole frames, at least [seconds] of them. */
        fun frames(seconds: Double?, frameS: Double): Int? =
            seconds?.let { maxOf(1, ceil(it / frameS - ROUNDING_FRAMES).toInt()) }
    }
}
