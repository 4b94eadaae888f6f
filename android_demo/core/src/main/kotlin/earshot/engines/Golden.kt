package earshot.engines

import earshot.Bundle
import earshot.BundleError
import earshot.Frames
import earshot.GoldenErrors
import earshot.StreamingConfig
import earshot.framesOf
import earshot.general
import java.io.File
import java.io.IOException
import kotlin.math.abs

/** The golden self-test: does this machine compute what the exporting machine computed? See asr/engines/golden.py. */

private class GoldenArrays(
    val features: Frames, // (T, num_mel_bins)
    val encoderOut: Frames, // (2C, joiner_dim)
    val contexts: LongArray, // (2C, context_size)
    val logProbs: FloatArray, // (2C, vocab_size)
)

/**
 * Run the golden input through the graphs; return how far the outputs are off. Throws BundleError if
 * that is beyond what the bundle tolerates for this precision.
 */
fun verifyGolden(bundle: Bundle, engine: Engine, precision: String): GoldenErrors {
    val golden = readGolden(bundle, precision)
    val encoded = encodeByChunks(engine, golden.features, bundle.streaming, bundle.model.joinerDim)
    val logProbs = Frames(engine.vocabSize)
    engine.join(golden.encoderOut, 0, golden.encoderOut.rows, engine.predict(golden.contexts), logProbs)
    val tolerance = bundle.golden.tolerance.getValue(precision)
    fun check(output: String, found: FloatArray, expected: FloatArray, most: Double): Double {
        if (found.size != expected.size) {
            throw BundleError(
                "${bundle.path}: the self-test gave ${found.size} numbers as $output, expected " +
                    "${expected.size}; export the model again",
            )
        }
        val error = maxError(found, expected)
        if (!(error <= most)) { // so written, NaN fails too
            throw BundleError(
                "${bundle.path}: the self-test failed: on this machine $output of the $precision graphs is " +
                    "off by ${general(error, 3)} (tolerance ${general(most, 3)}), so its text would be " +
                    "wrong; try another precision or another version of the inference engine",
            )
        }
        return error
    }
    return GoldenErrors(
        check("encoder_out", encoded.copy(), golden.encoderOut.copy(), tolerance.encoderOut),
        check("log_probs", logProbs.copy(), golden.logProbs, tolerance.logProbs),
    )
}

/** The encoder output of all whole chunks of [features]. */
fun encodeByChunks(engine: Engine, features: Frames, streaming: StreamingConfig, joinerDim: Int): Frames {
    val window = streaming.featureFrames(streaming.chunkFrames)
    val rest = framesOf(features.copy(), features.width)
    val encoded = Frames(joinerDim)
    engine.initialState().use { state ->
        while (rest.rows >= window) {
            val chunk = engine.encode(rest, window, state)
            encoded.addAll(chunk)
            rest.drop(streaming.subsamplingFactor * streaming.chunkFrames)
        }
    }
    return encoded
}

/** The largest difference between numbers of two arrays of one length; NaN if one has NaN. */
fun maxError(found: FloatArray, expected: FloatArray): Double {
    var most = 0.0
    for (i in found.indices) {
        val error = abs(found[i].toDouble() - expected[i])
        if (error.isNaN()) return error
        most = maxOf(most, error)
    }
    return most
}

private fun readGolden(bundle: Bundle, precision: String): GoldenArrays {
    val file = File(bundle.path, bundle.golden.file)
    val model = bundle.model
    try {
        val (features, encoderOut, contexts, logProbs) =
            readNpz(bundle.read(bundle.golden.file), "features", "encoder_out.$precision", "contexts", "log_probs.$precision")
        val window = bundle.streaming.featureFrames(bundle.streaming.chunkFrames)
        val bins = bundle.features.numMelBins
        if (features.shape.size != 2 || features.shape[0] < window || features.shape[1] != bins) {
            throw IOException("features of shape ${features.shape}; expected [$window or more, $bins]")
        }
        val rows = encoderOut.shape.firstOrNull() ?: 0
        if (rows == 0 || encoderOut.shape != listOf(rows, model.joinerDim)) {
            throw IOException("encoder_out of shape ${encoderOut.shape}; expected [$rows, ${model.joinerDim}]")
        }
        if (contexts.isFloat || contexts.shape != listOf(rows, model.contextSize)) {
            throw IOException("contexts of shape ${contexts.shape}; expected [$rows, ${model.contextSize}], int64")
        }
        return GoldenArrays(
            framesOf(features.floats(), bins),
            framesOf(encoderOut.floats(), model.joinerDim),
            contexts.longs(),
            logProbs.floats(),
        )
    } catch (error: IOException) {
        throw BundleError("$file: can't be used: ${error.message}; export the model again", error)
    }
}
