package earshot.decoding

import earshot.Frames
import earshot.engines.Engine

/**
 * The argmax of the joiner at each frame, at most one token a frame, `<unk>` never emitted.
 *
 * All frames of a chunk are joined at once with the current predictor output. The first frame whose
 * argmax is a label emits it; only then is the predictor evaluated again, and only the frames behind it
 * are joined again.
 */
class GreedySearch(private val engine: Engine) : Search {
    private val context = LongArray(2)
    private var predictorOut = FloatArray(0)
    private val logProbs = Frames(engine.vocabSize)
    private val emissions = ArrayList<Emission>()
    private var frames = 0

    init {
        reset()
    }

    /** All of it is stable. */
    override val best: Hypothesis get() = Hypothesis(emissions, emissions.size)

    override fun accept(encoderOut: Frames, from: Int, to: Int) {
        var start = from
        while (start < to) {
            engine.join(encoderOut, start, to, predictorOut, logProbs)
            val row = (0 until to - start).firstOrNull { argmax(it) > UNK } ?: break
            val token = argmax(row)
            emissions += Emission(token, frames + start - from + row, logProbs[row, token].toDouble())
            context[0] = context[1]
            context[1] = token.toLong()
            predictorOut = engine.predict(context)
            start += row + 1
        }
        frames += to - from
    }

    override fun forget(count: Int) = emissions.subList(0, count).clear()

    override fun skip(frames: Int) {
        this.frames += frames
    }

    override fun reset() {
        emissions.clear()
        for (i in context.indices) context[i] = INITIAL_CONTEXT[i]
        predictorOut = engine.predict(context)
    }

    private fun argmax(row: Int): Int {
        val values = logProbs.values
        val at = logProbs.offset(row)
        var best = 0
        for (i in 1 until logProbs.width) if (values[at + i] > values[at + best]) best = i
        return best
    }
}
