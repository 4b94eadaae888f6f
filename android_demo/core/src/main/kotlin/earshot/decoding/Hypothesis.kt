package earshot.decoding

import earshot.Frames

/** What a search gives: tokens, how sure it is of them, and the interface of every search. */

const val BLANK = 0
const val UNK = 1

/** The predictor's input before any token: what sherpa-onnx starts with. */
val INITIAL_CONTEXT: List<Long> = listOf(-1, BLANK.toLong())

/** One token of a hypothesis. */
data class Emission(
    val token: Int,
    val frame: Int, // encoder frames since the stream began
    val logProb: Double,
)

/** The tokens of a stream as a search sees them after some chunk. */
class Hypothesis(
    val emissions: List<Emission>, // all that were not forgotten; valid until the search goes on
    val stable: Int, // how many of them, from the first, no later audio can change; never fewer again
)

/** Looks for the most likely tokens of one stream. */
interface Search {
    /** The most likely hypothesis so far; its readers copy what they keep. */
    val best: Hypothesis

    /** Search the next encoder frames: rows [from] until [to] of [encoderOut]. */
    fun accept(encoderOut: Frames, from: Int, to: Int)

    /** Drop the first [count] emissions of the best hypothesis, all stable: they have been read. */
    fun forget(count: Int)

    /** Take it that the next [frames] encoder frames are blank: they were not encoded. */
    fun skip(frames: Int)

    /** Drop every hypothesis and go on with the initial context; frames are counted on. */
    fun reset()
}
