package earshot

import java.util.Random
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.sin
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/** Resampling: what speech has of a sound stays, in its place; what 16 kHz can't hold goes. */
class AudioTest {
    private fun tone(hertz: Double, rate: Int, count: Int) = FloatArray(count) { sin(2 * PI * hertz * it / rate).toFloat() }

    private fun resample(samples: FloatArray, rate: Int, block: Int = samples.size): FloatArray {
        val resampler = StreamingResampler(rate)
        val out = ArrayList<Float>()
        for (from in samples.indices step block) {
            resampler.accept(samples.copyOfRange(from, minOf(from + block, samples.size)))
            for (i in 0 until resampler.ready) out += resampler.output[i]
        }
        resampler.finish()
        for (i in 0 until resampler.ready) out += resampler.output[i]
        return out.toFloatArray()
    }

    @ParameterizedTest
    @ValueSource(ints = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
    fun `a tone keeps its height, loudness and place`(rate: Int) {
        val hertz = minOf(7_000.0, 0.85 * rate / 2)
        val found = resample(tone(hertz, rate, rate), rate)
        assertEquals(16_000, found.size)
        val expected = tone(hertz, 16_000, 16_000)
        for (i in 1_000 until 15_000) assertTrue(abs(found[i] - expected[i]) < 1e-3, "$rate Hz, sample $i")
    }

    @ParameterizedTest
    @ValueSource(ints = [22_050, 44_100, 48_000])
    fun `what 16 kHz can not hold is gone`(rate: Int) {
        val found = resample(tone(8_200.0, rate, rate), rate)
        for (i in 1_000 until 15_000) assertTrue(abs(found[i]) < 1e-3, "$rate Hz, sample $i: ${found[i]}")
    }

    @Test
    fun `the split of the input does not matter`() {
        val random = Random(2)
        val samples = FloatArray(30_011) { random.nextGaussian().toFloat() }
        val whole = resample(samples, 44_100)
        for (block in listOf(1, 37, 441, 9_000)) assertArrayEquals(whole, resample(samples, 44_100, block))
    }

    @Test
    fun `impossible rates and samples are refused`() {
        for (rate in listOf(0, 44_101, 1_000_000)) {
            assertTrue("a sample rate of $rate Hz" in assertThrows<AudioError> { StreamingResampler(rate) }.message!!)
        }
        val nan = assertThrows<AudioError> { checkSamples(floatArrayOf(0f, Float.NaN), 2) }
        assertTrue("sample 1 of the block is NaN or Inf" in nan.message!!)
        val loud = assertThrows<AudioError> { checkSamples(floatArrayOf(0f, -300f), 2) }
        assertTrue("samples reach 300; expected [-1, 1]" in loud.message!!)
    }
}
