package earshot.engines

import earshot.Bundle
import earshot.BundleError
import earshot.Frames

/** The encoder's caches of one stream, of fixed size. Only the engine that made it looks inside. */
interface EncoderState : AutoCloseable {
    /** Give back what the garbage collector can't. */
    override fun close()
}

/**
 * The three networks of a transducer, for one stream (a batch of one).
 *
 * An engine keeps no state of a stream: any number of streams may share one, in any threads. Unlike in
 * Python, [encode] changes the state in place, so that a phone moves no caches about.
 */
interface Engine : AutoCloseable {
    /** The length of a row of log-probabilities. */
    val vocabSize: Int

    /** The encoder's state at the start of a stream. */
    fun initialState(): EncoderState

    /**
     * Encode the next chunk: the first [rows] `(4C + 3, num_mel_bins)` of [features] give
     * `(C, joiner_dim)`, valid until the next call with this state. The next call's features begin 4C
     * frames later: three frames are seen twice.
     */
    fun encode(features: Frames, rows: Int, state: EncoderState): Frames

    /**
     * The predictor output `(n, joiner_dim)`, read-only, for the last two tokens of n hypotheses, one
     * pair behind the other in [contexts].
     */
    fun predict(contexts: LongArray): FloatArray

    /**
     * Write to [logProbs] the log-probabilities of rows [from] until [to] of [encoderOut], each joined
     * with its row of [predictorOut], or all with its only one.
     */
    fun join(encoderOut: Frames, from: Int, to: Int, predictorOut: FloatArray, logProbs: Frames)

    /** Give back what was kept to be faster. The next calls may be slower, nothing else. */
    fun releaseMemory()
}

/**
 * Open the graphs of a bundle in the engine that they were made for. Throws BundleError: the bundle has
 * no such precision, its engine is not here, or a graph can't be loaded.
 */
fun openEngine(bundle: Bundle, precision: String? = null, threads: Int = 1): Engine {
    val graphs = bundle.graphs(precision)
    if (graphs.engine == "onnx" || graphs.engine == "ort") return OnnxEngine(bundle, graphs, threads)
    throw BundleError(
        "${bundle.path}: its ${graphs.precision} graphs are for the engine '${graphs.engine}', and this app " +
            "has only 'onnx' and 'ort'; use another precision, or export the model for onnx",
    )
}
