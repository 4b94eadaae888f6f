package earshot

import java.util.Random
import kotlin.math.abs
import kotlin.math.ln
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/**
 * The filter bank computes what kaldi-native-fbank does, and not depending on how samples arrive.
 *
 * To 1e-4 in each bin that is less than 60 dB below the loudest of its frame, and to 1e-3 in all. So far
 * below, the rounding of kaldi-native-fbank's own transform, in floats and in an order that its compiler
 * chose, is as large: the power spectrum of the same windows in double precision is as far from it.
 */
class FeaturesTest {
    private val config = FeatureConfig()

    private companion object {
        val DECIBEL = 10 / ln(10.0) // of a natural logarithm of power
    }

    @ParameterizedTest
    @ValueSource(strings = ["speech", "tone", "noise", "clipped", "silence", "shortest"])
    fun `features are those of Python`(signal: String) {
        val (samples, frames) = goldenArrays("model/features.npz", "$signal.samples", "$signal.frames")
        val found = computeFeatures(samples.floats())
        assertEquals(frames.shape, listOf(found.rows, found.width))
        val expected = framesOf(frames.floats(), config.numMelBins)
        for (row in 0 until expected.rows) {
            val loudest = (0 until expected.width).maxOf { expected[row, it] }
            for (bin in 0 until expected.width) {
                val below = (loudest - expected[row, bin]) * DECIBEL
                val error = abs(found[row, bin] - expected[row, bin])
                assertTrue(error <= if (below < 60) 1e-4 else 1e-3, "frame $row, bin $bin, $below dB: off by $error")
            }
        }
    }

    @Test
    fun `any split of the samples gives the same frames`() {
        val random = Random(1)
        val samples = FloatArray(40_000) { 0.1f * random.nextGaussian().toFloat() }
        val whole = computeFeatures(samples).copy()
        repeat(10) {
            val frames = Frames(config.numMelBins)
            val bank = FilterBank(config, frames)
            var from = 0
            while (from < samples.size) {
                val count = minOf(random.nextInt(3_000), samples.size - from)
                bank.accept(samples.copyOfRange(from, from + count))
                from += count
            }
            bank.finish()
            assertArrayEquals(whole, frames.copy())
        }
    }

    @Test
    fun `a frame comes out as soon as its window is full`() {
        val frames = Frames(config.numMelBins)
        val bank = FilterBank(config, frames)
        bank.accept(FloatArray(160 * 10 + 80 + 200 - 1))
        assertEquals(10, frames.rows)
        bank.accept(FloatArray(1))
        assertEquals(11, frames.rows)
    }
}
