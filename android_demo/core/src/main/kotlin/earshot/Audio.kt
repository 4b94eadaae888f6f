package earshot

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.sin
import kotlin.math.sqrt

/** Full scale is 1. Float samples may pass it a little; far beyond, they were not scaled at all. */
const val MAX_AMPLITUDE = 16.0f

private const val MIN_RATE = 1_000 // Hz; outside of these a sample rate is a mistake
private const val MAX_RATE = 200_000
private const val RATE_STEP = 25 // Hz: what every recorder's rate is a multiple of

/** Check that the first [count] samples are finite and in [-1, 1], or a little beyond. Throws AudioError. */
fun checkSamples(samples: FloatArray, count: Int) {
    for (i in 0 until count) {
        val sample = samples[i]
        if (!sample.isFinite()) {
            throw AudioError("sample $i of the block is NaN or Inf; expected finite values in [-1, 1]")
        }
        if (abs(sample) > MAX_AMPLITUDE) {
            throw AudioError(
                "samples reach ${general(abs(sample).toDouble())}; expected [-1, 1]: divide by 32768, or " +
                    "pass 16-bit samples",
            )
        }
    }
}

/**
 * Samples of any rate to another, in blocks of any size.
 *
 * A sinc under a Kaiser window, one row of taps for each phase between the rates: flat to 7 kHz, 80 dB
 * down from 8 kHz on. The filter's state goes on from block to block, so the output doesn't depend on
 * how the input was split, and its delay is taken out: sample n of the output is at n / outRate seconds.
 */
class StreamingResampler(val inRate: Int, outRate: Int = SAMPLE_RATE) {
    /** What came out of the last call: its first [ready] samples, valid until the next. */
    var output = FloatArray(0)
        private set

    /** How many samples came out of the last call. */
    var ready = 0
        private set

    private val up: Int
    private val down: Int
    private val reach: Int // input samples on each side of an output sample
    private val taps: Array<FloatArray>
    private val isIdentity = inRate == outRate

    // What later output needs of the input: sample `start + i` is `history[i]`, 0 before the first.
    private var history = FloatArray(0)
    private var size = 0
    private var start = 0L
    private var taken = 0L // input samples
    private var given = 0L // output samples

    init {
        if (inRate !in MIN_RATE..MAX_RATE || inRate % RATE_STEP != 0) {
            throw AudioError(
                "the stream: a sample rate of $inRate Hz; expected $MIN_RATE to $MAX_RATE, a multiple " +
                    "of $RATE_STEP",
            )
        }
        val divisor = greatestCommonDivisor(inRate, outRate)
        up = outRate / divisor
        down = inRate / divisor
        val scale = minOf(1.0, outRate.toDouble() / inRate)
        reach = ceil(ZERO_CROSSINGS / scale).toInt()
        taps = if (isIdentity) emptyArray() else Array(up) { kernel(it.toDouble() / up, CUTOFF * scale) }
        start = -reach.toLong()
        size = reach
        history = FloatArray(4 * reach)
    }

    /** Take [count] samples. */
    fun accept(samples: FloatArray, count: Int = samples.size) {
        if (isIdentity) {
            reserve(count)
            System.arraycopy(samples, 0, output, 0, count)
            ready = count
            return
        }
        if (size + count > history.size) history = history.copyOf(maxOf(2 * history.size, size + count))
        System.arraycopy(samples, 0, history, size, count)
        size += count
        taken += count
        resample(Long.MAX_VALUE)
    }

    /** No more samples follow: give the last ones. */
    fun finish() {
        ready = 0
        if (isIdentity) return
        history = history.copyOf(size + reach + 1)
        size += reach + 1 // zeros
        resample((taken * up + down - 1) / down)
    }

    private fun resample(end: Long) {
        // Output sample n needs the input up to `n down / up + reach`.
        reserve(((size.toLong() * up) / down + 2).toInt())
        ready = 0
        while (given < end) {
            val position = given * down
            val first = (position / up - reach + 1 - start).toInt()
            if (first + 2 * reach > size) break
            val row = taps[(position % up).toInt()]
            var sum = 0f
            for (i in row.indices) sum += row[i] * history[first + i]
            output[ready++] = sum
            given++
        }
        val past = (given * down / up - reach + 1 - start).toInt().coerceIn(0, size)
        System.arraycopy(history, past, history, 0, size - past)
        history.fill(0f, size - past, size)
        size -= past
        start += past
    }

    private fun reserve(count: Int) {
        if (output.size < count) output = FloatArray(count)
    }

    /** The taps for an output sample that lies `fraction` behind an input sample. */
    private fun kernel(fraction: Double, cutoff: Double): FloatArray {
        val row = DoubleArray(2 * reach) {
            val distance = it - reach + 1 - fraction
            val x = PI * cutoff * distance
            val sinc = if (x == 0.0) 1.0 else sin(x) / x
            val edge = distance / (reach + 1)
            sinc * bessel(KAISER_BETA * sqrt(1 - edge * edge))
        }
        val sum = row.sum()
        return FloatArray(row.size) { (row[it] / sum).toFloat() }
    }

    private companion object {
        const val ZERO_CROSSINGS = 40.0 // of the sinc, on each side
        const val CUTOFF = 0.94 // of the lower Nyquist frequency: half way down the slope
        const val KAISER_BETA = 8.0 // 80 dB

        fun greatestCommonDivisor(a: Int, b: Int): Int = if (b == 0) a else greatestCommonDivisor(b, a % b)

        /** The modified Bessel function of order 0, by its series. */
        fun bessel(x: Double): Double {
            var term = 1.0
            var sum = 1.0
            var k = 1
            while (term > 1e-12 * sum) {
                term *= (x / (2 * k)) * (x / (2 * k))
                sum += term
                k++
            }
            return sum
        }
    }
}
