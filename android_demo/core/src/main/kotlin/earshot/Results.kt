package earshot

import earshot.decoding.Rule

/**
 * What a stream gives back: partials while it listens, and its result in the final event.
 *
 * All times are seconds since the stream began: those at which the model emitted the tokens (in steps of
 * 40 ms), which follow the speech closely but are not an alignment of it.
 */

/** One emitted token. */
data class Token(
    val piece: String, // as in tokens.txt: U+2581 starts a word
    val timeS: Double, // start of the 40 ms encoder frame that emitted it
    val confidence: Double, // the model's probability of it, in [0, 1]
)

/** One word of the transcript. */
data class Word(
    val text: String,
    val startS: Double, // time of its first token
    val endS: Double, // end of the frame of its last token
    val confidence: Double, // geometric mean of its tokens' probabilities, in [0, 1]
)

/** The transcript of a whole stream. */
data class Result(
    val text: String,
    val words: List<Word>,
    val tokens: List<Token>,
    val durationS: Double, // seconds of audio that the stream was given
    val confidence: Double, // geometric mean of the tokens' probabilities; 0 when there is no token
)

/** Something that happened in a stream. */
sealed interface Event {
    /** Seconds of audio that the stream had been given when it happened. */
    val timeS: Double
}

/** A decision about the budget of a stream. */
sealed interface Decision : Event

/**
 * The transcript changed. The [newWords] of all partials of a stream and of its final event, one after
 * the other, are the words of its result.
 */
data class Partial(
    override val timeS: Double,
    val text: String, // the whole text since the last endpoint, if any, as the search sees it now
    val stableText: String, // the part of it, from its beginning, to which later events only append
    val newWords: List<Word>, // the words that became complete and stable since the last event
) : Event

/** A segment ended. Only a stream with endpoint rules has these. */
data class Endpoint(
    override val timeS: Double,
    val rule: Rule, // what fired
    val reason: String, // why, in words
    val text: String, // of the segment; empty where `silence` goes on
    val words: List<Word>,
    val startS: Double, // of its first word; without words, when the rule fired
    val endS: Double, // of its last word; without words, the same
    val tokens: List<Token>, // those of its words
) : Event

/** The stream goes on at another operating point. No audio is lost or heard twice by that. */
data class Moved(
    override val timeS: Double,
    val fromPoint: OperatingPoint,
    val toPoint: OperatingPoint,
    val reason: String,
) : Decision

/** A budget is broken, or audio was refused. While that lasts, it is told again every 10 s. */
data class Overrun(
    override val timeS: Double,
    val budget: String, // what could not be held: audio, queue, memory, rtf or latency
    val found: Double, // what it is, in the unit of the budget; of audio and queue in seconds
    val limit: Double,
    val behindS: Double, // audio that waits
    val action: String, // what was done
    val refusedS: Double = 0.0, // audio that the full queue did not take: it is lost
) : Decision

/** The stream ended: its last event. */
data class Final(
    override val timeS: Double,
    val newWords: List<Word>, // the words that became complete since the last event
    val result: Result,
    val endpoints: List<Endpoint>, // the segments that ended since the last event
    val decisions: List<Decision>, // what was decided since the last event
) : Event {
    /** The whole text. */
    val text: String get() = result.text
}
