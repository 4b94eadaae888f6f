package earshot

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.pow
import kotlin.math.sin

/** Hz. Audio of any other rate is resampled before it reaches the filter bank. */
const val SAMPLE_RATE = 16_000

/** Samples from one frame to the next (10 ms). */
const val FRAME_SHIFT = 160

/** Options of the filter bank; they travel in the bundle. */
data class FeatureConfig(
    val sampleRate: Int = SAMPLE_RATE, // Hz
    val numMelBins: Int = 80,
    val frameLengthMs: Double = 25.0,
    val frameShiftMs: Double = 10.0,
    val preemphasis: Double = 0.97,
    val lowHz: Double = 20.0,
    val highHz: Double = -400.0, // below zero: counted down from the Nyquist frequency
)

/**
 * Streaming log-mel filter bank: samples in, frames out, in blocks of any size.
 *
 * The computation is kaldi-native-fbank's, in its order and precision: Povey window, mean removed,
 * power spectrum, mel triangles, natural logarithm. Frames are centred (`snip_edges` off): n samples
 * give `round(n / 160)` frames. A frame comes out once its whole window has been heard; [finish]
 * mirrors the signal at its end for the last ones.
 */
class FilterBank(config: FeatureConfig, private val out: Frames) {
    private val length = (config.sampleRate * config.frameLengthMs / 1000).toInt()
    private val shift = (config.sampleRate * config.frameShiftMs / 1000).toInt()
    private val fftSize = Integer.highestOneBit(length - 1) * 2
    private val preemphasis = config.preemphasis.toFloat()
    private val window = FloatArray(length) {
        (0.5 - 0.5 * cos(2 * PI / (length - 1) * it)).pow(0.85).toFloat()
    }
    private val mel = MelBanks(config, fftSize)
    private val fft = RealFft(fftSize)
    private val frame = FloatArray(length)
    private val padded = FloatArray(fftSize) // with zeros
    private val power = FloatArray(fftSize / 2 + 1)

    // What later frames need of the signal: sample `waveStart + i` is `wave[i]`.
    private var wave = FloatArray(2 * length)
    private var waveSize = 0
    private var waveStart = 0L
    private var frames = 0L
    private var finished = false

    /** Take [count] samples in [-1, 1] at the configured rate; add the frames that became ready. */
    fun accept(samples: FloatArray, count: Int = samples.size) {
        check(!finished) { "samples behind the end of the signal" }
        if (waveSize + count > wave.size) wave = wave.copyOf(max(2 * wave.size, waveSize + count))
        System.arraycopy(samples, 0, wave, waveSize, count)
        waveSize += count
        compute()
    }

    /** No more samples follow: add the last frames. */
    fun finish() {
        finished = true
        compute()
    }

    private fun compute() {
        val ready = framesReady(waveStart + waveSize)
        while (frames < ready) {
            extract((firstSample(frames) - waveStart).toInt())
            computeFrame(out.add(1))
            frames++
        }
        val past = minOf(firstSample(frames) - waveStart, waveSize.toLong()).toInt()
        if (past > 0) {
            System.arraycopy(wave, past, wave, 0, waveSize - past)
            waveSize -= past
            waveStart += past
        }
    }

    private fun firstSample(frame: Long): Long = shift * frame + shift / 2 - length / 2

    private fun framesReady(samples: Long): Long {
        val rounded = (samples + shift / 2) / shift
        if (finished) return rounded
        var ready = rounded
        while (ready > 0 && firstSample(ready - 1) + length > samples) ready--
        return ready
    }

    /** Copy the frame that begins at `wave[start]`, mirrored at the ends of what there is. */
    private fun extract(start: Int) {
        if (start >= 0 && start + length <= waveSize) {
            System.arraycopy(wave, start, frame, 0, length)
            return
        }
        for (i in 0 until length) {
            var at = start + i
            while (at < 0 || at >= waveSize) at = if (at < 0) -at - 1 else 2 * waveSize - 1 - at
            frame[i] = wave[at]
        }
    }

    private fun computeFrame(at: Int) {
        var sum = 0f
        for (sample in frame) sum += sample
        val mean = sum / length
        for (i in 0 until length) frame[i] -= mean
        for (i in length - 1 downTo 1) frame[i] -= preemphasis * frame[i - 1]
        frame[0] -= preemphasis * frame[0]
        for (i in 0 until length) padded[i] = frame[i] * window[i]
        fft.powerSpectrum(padded, power)
        mel.logEnergies(power, out.values, at)
    }
}

/** The frames of a whole recording. */
fun computeFeatures(samples: FloatArray, config: FeatureConfig = FeatureConfig()): Frames {
    val frames = Frames(config.numMelBins)
    val bank = FilterBank(config, frames)
    bank.accept(samples)
    bank.finish()
    return frames
}

/** Triangles on the mel scale, as wide as their neighbours are apart. */
private class MelBanks(config: FeatureConfig, fftSize: Int) {
    private val bins = config.numMelBins
    private val firstIndex = IntArray(bins)
    private val weights: Array<FloatArray>

    init {
        val nyquist = 0.5f * config.sampleRate
        val high = config.highHz.toFloat()
        val lowMel = melScale(config.lowHz.toFloat())
        val highMel = melScale(if (high > 0) high else nyquist + high)
        val delta = (highMel - lowMel) / (bins + 1)
        val binWidth = config.sampleRate.toFloat() / fftSize
        weights = Array(bins) { bin ->
            val left = lowMel + bin * delta
            val centre = lowMel + (bin + 1) * delta
            val right = lowMel + (bin + 2) * delta
            val inside = (0 until fftSize / 2).filter { melScale(binWidth * it).let { mel -> mel > left && mel < right } }
            firstIndex[bin] = inside.first()
            FloatArray(inside.size) {
                val mel = melScale(binWidth * inside[it])
                if (mel <= centre) (mel - left) / (centre - left) else (right - mel) / (right - centre)
            }
        }
    }

    fun logEnergies(power: FloatArray, out: FloatArray, at: Int) {
        for (bin in 0 until bins) {
            val triangle = weights[bin]
            val first = firstIndex[bin]
            var energy = 0f
            for (i in triangle.indices) energy += triangle[i] * power[first + i]
            out[at + bin] = ln(max(energy, FLOAT_EPSILON).toDouble()).toFloat()
        }
    }

    private fun melScale(hz: Float): Float = 1127f * ln((1f + hz / 700f).toDouble()).toFloat()

    private companion object {
        const val FLOAT_EPSILON = 1.1920929e-7f // the floor of the energies: no logarithm of zero
    }
}

/**
 * The power spectrum of real signals of [size] samples, twice a power of four.
 *
 * As kiss_fft computes it, which kaldi-native-fbank uses: radix 4 in time, in floats. Quiet bins beside
 * loud ones are rounding noise in part, there and here: see FeaturesTest.
 */
private class RealFft(private val size: Int) {
    private val half = size / 2
    private val twiddles = FloatArray(size) { twiddle(2 * PI * (it / 2) / half, it) }
    private val splitTwiddles = FloatArray(half) { twiddle(PI * ((it / 2 + 1.0) / half + 0.5), it) }
    private val reversed = IntArray(half) { reverseDigits(it) }
    private val z = FloatArray(size) // complex numbers: real and imaginary parts in turn

    /** Of `signal (size)`; writes `power (size / 2 + 1)`. */
    fun powerSpectrum(signal: FloatArray, power: FloatArray) {
        transform(signal)
        val first = z[0] + z[1]
        val last = z[0] - z[1]
        power[0] = first * first
        power[half] = last * last
        // The even samples were taken for real parts and the odd ones for imaginary parts.
        for (k in 1..half / 2) {
            val mirror = half - k
            val evenReal = z[2 * k] + z[2 * mirror]
            val evenImaginary = z[2 * k + 1] - z[2 * mirror + 1]
            val oddReal = z[2 * k] - z[2 * mirror]
            val oddImaginary = z[2 * k + 1] + z[2 * mirror + 1]
            val c = splitTwiddles[2 * k - 2]
            val s = splitTwiddles[2 * k - 1]
            val turnedReal = oddReal * c - oddImaginary * s
            val turnedImaginary = oddReal * s + oddImaginary * c
            power[k] = energy(evenReal + turnedReal, evenImaginary + turnedImaginary)
            power[mirror] = energy(evenReal - turnedReal, turnedImaginary - evenImaginary)
        }
    }

    private fun energy(twiceReal: Float, twiceImaginary: Float): Float {
        val real = 0.5f * twiceReal
        val imaginary = 0.5f * twiceImaginary
        return real * real + imaginary * imaginary
    }

    /** The complex transform of the signal as `size / 2` numbers, into [z]. */
    private fun transform(signal: FloatArray) {
        for (i in 0 until half) {
            z[2 * i] = signal[2 * reversed[i]]
            z[2 * i + 1] = signal[2 * reversed[i] + 1]
        }
        var span = 1
        while (span < half) {
            for (start in 0 until half step 4 * span) {
                for (k in 0 until span) butterfly(start + k, span, k * (half / (4 * span)))
            }
            span *= 4
        }
    }

    private fun butterfly(at: Int, span: Int, turn: Int) {
        val a = 2 * at
        val b = a + 2 * span
        val c = b + 2 * span
        val d = c + 2 * span
        val bReal = z[b] * twiddles[2 * turn] - z[b + 1] * twiddles[2 * turn + 1]
        val bImaginary = z[b] * twiddles[2 * turn + 1] + z[b + 1] * twiddles[2 * turn]
        val cReal = z[c] * twiddles[4 * turn] - z[c + 1] * twiddles[4 * turn + 1]
        val cImaginary = z[c] * twiddles[4 * turn + 1] + z[c + 1] * twiddles[4 * turn]
        val dReal = z[d] * twiddles[6 * turn] - z[d + 1] * twiddles[6 * turn + 1]
        val dImaginary = z[d] * twiddles[6 * turn + 1] + z[d + 1] * twiddles[6 * turn]
        val minusReal = z[a] - cReal
        val minusImaginary = z[a + 1] - cImaginary
        val plusReal = z[a] + cReal
        val plusImaginary = z[a + 1] + cImaginary
        val sumReal = bReal + dReal
        val sumImaginary = bImaginary + dImaginary
        val differenceReal = bReal - dReal
        val differenceImaginary = bImaginary - dImaginary
        z[a] = plusReal + sumReal
        z[a + 1] = plusImaginary + sumImaginary
        z[b] = minusReal + differenceImaginary
        z[b + 1] = minusImaginary - differenceReal
        z[c] = plusReal - sumReal
        z[c + 1] = plusImaginary - sumImaginary
        z[d] = minusReal - differenceImaginary
        z[d + 1] = minusImaginary + differenceReal
    }

    private fun twiddle(angle: Double, part: Int): Float = (if (part % 2 == 0) cos(angle) else -sin(angle)).toFloat()

    /** The digits of an index below [half] in base 4, the last one first. */
    private fun reverseDigits(index: Int): Int {
        var rest = index
        var reversed = 0
        var place = 1
        while (place < half) {
            reversed = 4 * reversed + rest % 4
            rest /= 4
            place *= 4
        }
        return reversed
    }
}
