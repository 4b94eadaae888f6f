package earshot.decoding

import earshot.Frames
import earshot.StreamingConfig

private const val BANDS = 8
private const val MARGIN = 2.0 // natural log of power: 8.7 dB above the floor in any band is sound
private const val FALL = 0.5 // of the way down to a frame that is below the floor
private const val RISE = 0.02 // in 40 ms: 2 dB a second, so that speech does not become its own floor
private const val HOLD_CONTEXTS = 1.5 // left contexts of silence: then the encoder's output is nearly at rest

/**
 * Says which encoder frames need not be encoded, because they are of a long silence.
 *
 * It closes when for 1.5 left contexts (3.84 s) no band was louder than the noise floor and the search
 * found only blanks; see asr/decoding/gate.py. When a band rises above the floor, it opens before the
 * last [lookbackFrames], so that a word's soft onset is not lost.
 */
class SilenceGate(streaming: StreamingConfig, private val lookbackFrames: Int = 16) {
    private val factor = streaming.subsamplingFactor
    private val hold = Math.rint(HOLD_CONTEXTS * streaming.leftContextFrames).toInt()
    private var rest: Frames? = null // features of the encoder frame that is not whole yet
    private val floor = DoubleArray(BANDS)
    private var hasFloor = false
    private val loud = ArrayDeque<Boolean>() // of the encoder frames that were not passed yet
    private var quiet = 0 // frames without a loud one, up to the last that was passed

    /** Hear the feature frames from row [from] on. */
    fun accept(features: Frames, from: Int) {
        val rest = this.rest ?: Frames(features.width).also { this.rest = it }
        val at = rest.add(features.rows - from)
        val count = (features.rows - from) * features.width
        System.arraycopy(features.values, features.offset(from), rest.values, at, count)
        while (rest.rows >= factor) {
            loud.addLast(isLoud(rest))
            rest.drop(factor)
        }
    }

    /** Say that the next [frames] encoder frames were encoded or skipped. */
    fun passOn(frames: Int) {
        repeat(minOf(frames, loud.size)) { quiet = if (loud.removeFirst()) 0 else quiet + 1 }
    }

    /**
     * Whether nothing that was heard so far needs the encoder, but what is kept to look back.
     * [blankFrames]: how many encoder frames before the next one the search found blank.
     */
    fun isClosed(blankFrames: Int): Boolean = holds(blankFrames) && !loud.contains(true)

    /** How many of the next encoder frames can be skipped; [ended]: no more follow. */
    fun skippable(blankFrames: Int, ended: Boolean): Int {
        if (!holds(blankFrames)) return 0
        val first = loud.indexOf(true)
        if (first >= 0) return maxOf(0, first - lookbackFrames)
        return if (ended) loud.size else maxOf(0, loud.size - lookbackFrames)
    }

    private fun holds(blankFrames: Int) = minOf(quiet, blankFrames) >= hold

    /** Judge the first `factor` rows by the mean of each band of bins. */
    private fun isLoud(features: Frames): Boolean {
        val bins = features.width
        var isLoud = false
        for (band in 0 until BANDS) {
            val low = band * bins / BANDS
            val high = (band + 1) * bins / BANDS
            var sum = 0f
            for (bin in low until high) {
                var column = 0f
                for (row in 0 until factor) column += features[row, bin]
                sum += column / factor
            }
            val level = sum.toDouble() / (high - low)
            if (!hasFloor) floor[band] = level
            val above = level - floor[band]
            floor[band] += if (above < 0) FALL * above else minOf(above, RISE)
            if (above > MARGIN) isLoud = true
        }
        hasFloor = true
        return isLoud
    }
}
