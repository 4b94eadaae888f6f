package earshot.engines

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import earshot.AsrError
import earshot.Bundle
import earshot.BundleError
import earshot.Frames
import earshot.GraphFiles
import earshot.SUBSAMPLING_OVERLAP
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer

private const val PREDICTOR_CACHE = 512 // contexts whose output is kept, 1 kB each: frequent word parts

/**
 * Runs a bundle's graphs, in `.onnx` or in onnxruntime's own format, on the CPU.
 *
 * The graphs' inputs are taken by position, as sherpa-onnx takes them. Everything that goes in and out
 * lies in direct buffers that are used again, and onnxruntime writes the new caches where the old ones
 * of the call before were: in steady state a call makes half a kilobyte of garbage.
 *
 * onnxruntime 1.29 and later measure their users and send it home. A process can't turn that off for
 * itself in Java: `setTelemetry(false)` comes too late, when an identity of the device is on the disk
 * already. So pom.xml stays at 1.28, which has no such code; the call is for Windows, where it is older.
 */
class OnnxEngine(bundle: Bundle, files: GraphFiles, threads: Int) : Engine {
    override val vocabSize = bundle.model.vocabSize

    private val joinerDim = bundle.model.joinerDim
    private val melBins = bundle.features.numMelBins
    private val factor = bundle.streaming.subsamplingFactor
    private val attentionShape: LongArray
    private val convolutionShape: LongArray
    private val encoder: Graph
    private val predictor: Graph
    private val joiner: Graph
    private val predicting: Predicting
    private val joining: Joining
    private val predicted = object : LinkedHashMap<Long, FloatArray>(PREDICTOR_CACHE, 0.75f, true) {
        override fun removeEldestEntry(eldest: Map.Entry<Long, FloatArray>) = size > PREDICTOR_CACHE
    }

    init {
        if (threads < 1) throw AsrError("$threads threads; expected one or more")
        ENVIRONMENT.setTelemetry(false)
        val model = bundle.model
        val width = 2L * model.encoderDim
        val layers = model.encoderLayers.toLong()
        attentionShape = longArrayOf(layers, bundle.streaming.leftContextFrames.toLong(), 1, width)
        convolutionShape = longArrayOf(layers, 1L + (model.convKernel - 1) / 2, 1, width)
        val encoderOut = longArrayOf(ANY, ANY, joinerDim.toLong())
        val frame = longArrayOf(ANY, joinerDim.toLong())
        val opened = ArrayList<Graph>()
        fun open(file: String, inputs: List<LongArray>, outputs: List<LongArray>, options: OrtSession.SessionOptions) =
            Graph(bundle, file, options, inputs, outputs).also { opened += it }
        try {
            encoder = open(
                files.encoder,
                listOf(longArrayOf(ANY, ANY, melBins.toLong()), attentionShape, convolutionShape, longArrayOf(ANY)),
                listOf(encoderOut, attentionShape, convolutionShape),
                options(threads).apply { setSymbolicDimensionValue("N", 1) }, // one stream a call: see asr/engines/onnx.py
            )
            predictor = open(
                files.predictor, listOf(longArrayOf(ANY, model.contextSize.toLong())), listOf(frame), options(threads),
            )
            joiner = open(
                files.joiner, listOf(frame, frame), listOf(longArrayOf(ANY, vocabSize.toLong())), options(threads),
            )
        } catch (error: BundleError) {
            opened.forEach { it.close() }
            throw error
        }
        predicting = Predicting(rows = 1)
        joining = Joining()
    }

    override fun initialState(): EncoderState = OnnxState()

    override fun encode(features: Frames, rows: Int, state: EncoderState): Frames =
        (state as OnnxState).encode(features, rows)

    override fun predict(contexts: LongArray): FloatArray {
        if (contexts.size != 2) return runPredictor(contexts)
        val key = (contexts[0] shl 32) xor (contexts[1] and 0xFFFFFFFFL)
        synchronized(predicted) { return predicted.getOrPut(key) { runPredictor(contexts) } }
    }

    override fun join(encoderOut: Frames, from: Int, to: Int, predictorOut: FloatArray, logProbs: Frames) {
        synchronized(joining) { joining.run(encoderOut, from, to, predictorOut, logProbs) }
    }

    /** onnxruntime's arena keeps what the longest call needed and shrinks when a run ends that was told so. */
    override fun releaseMemory() {
        synchronized(predicted) { predicted.clear() }
        synchronized(joining) { joining.release() }
        val rows = factor + SUBSAMPLING_OVERLAP
        val features = Frames(melBins).apply { resize(rows) }
        OrtSession.RunOptions().use { shrinking ->
            shrinking.addRunConfigEntry("memory.enable_memory_arena_shrinkage", "cpu:0")
            OnnxState(shrinking).use { it.encode(features, rows) }
        }
    }

    override fun close() {
        joining.release()
        predicting.close()
        listOf(encoder, predictor, joiner).forEach { it.close() }
    }

    private fun runPredictor(contexts: LongArray): FloatArray =
        if (contexts.size == 2) predicting.run(contexts) else Predicting(contexts.size / 2).use { it.run(contexts) }

    /** The predictor's buffers for [rows] contexts. */
    private inner class Predicting(rows: Int) : AutoCloseable {
        private val input = directLongs(2 * rows)
        private val output = directFloats(rows * joinerDim)
        private val inputTensor = tensor(input, rows.toLong(), 2)
        private val outputTensor = tensor(output, rows.toLong(), joinerDim.toLong())
        private val inputs = predictor.inputs(inputTensor)
        private val outputs = predictor.outputs(outputTensor)

        fun run(contexts: LongArray): FloatArray {
            input.clear()
            input.put(contexts)
            predictor.run(inputs, outputs)
            output.clear()
            return FloatArray(output.remaining()).also { output.get(it) }
        }

        override fun close() {
            inputTensor.close()
            outputTensor.close()
        }
    }

    /** The caches of one stream, twice: each call reads the one and writes the other. */
    private inner class OnnxState(private val options: OrtSession.RunOptions? = null) : EncoderState {
        private val attention = Array(2) { tensor(directFloats(size(attentionShape)), *attentionShape) }
        private val convolution = Array(2) { tensor(directFloats(size(convolutionShape)), *convolutionShape) }
        private val processed = directLongs(1) // feature frames
        private val processedTensor = tensor(processed, 1)
        private val encoded = Frames(joinerDim)
        private var current = 0
        private var window: Window? = null
        private var closed = false

        fun encode(features: Frames, rows: Int): Frames {
            var window = this.window
            if (window == null || window.rows != rows) {
                window?.close()
                window = Window(rows)
                this.window = window
            }
            window.input.clear()
            window.input.put(features.values, features.offset(0), rows * melBins)
            window.input.rewind()
            encoder.run(window.inputs[current], window.outputs[current], options)
            current = 1 - current
            processed.put(0, processed.get(0) + factor * window.frames)
            encoded.resize(window.frames)
            window.output.rewind()
            window.output.get(encoded.values, encoded.offset(0), window.frames * joinerDim)
            return encoded
        }

        override fun close() {
            if (closed) return
            closed = true
            window?.close()
            (attention + convolution + processedTensor).forEach { it.close() }
        }

        /** What depends on the length of a call. */
        private inner class Window(val rows: Int) : AutoCloseable {
            val frames = (rows - SUBSAMPLING_OVERLAP) / factor
            val input = directFloats(rows * melBins)
            val output = directFloats(frames * joinerDim)
            private val inputTensor = tensor(input, 1, rows.toLong(), melBins.toLong())
            private val outputTensor = tensor(output, 1, frames.toLong(), joinerDim.toLong())
            val inputs = Array(2) { encoder.inputs(inputTensor, attention[it], convolution[it], processedTensor) }
            val outputs = Array(2) { encoder.outputs(outputTensor, attention[1 - it], convolution[1 - it]) }

            override fun close() {
                inputTensor.close()
                outputTensor.close()
            }
        }
    }

    /** The joiner's buffers, and tensors of each number of rows on them. */
    private inner class Joining {
        private var capacity = 0 // rows
        private var frames = directFloats(0)
        private var predictions = directFloats(0)
        private var logProbs = directFloats(0)
        private var calls = emptyArray<Call?>() // by rows

        fun run(encoderOut: Frames, from: Int, to: Int, predictorOut: FloatArray, out: Frames) {
            val rows = to - from
            if (rows > capacity) grow(rows)
            frames.clear()
            frames.put(encoderOut.values, encoderOut.offset(from), rows * joinerDim)
            predictions.clear()
            repeat(rows * joinerDim / predictorOut.size) { predictions.put(predictorOut) }
            val call = calls[rows] ?: Call(rows).also { calls[rows] = it }
            joiner.run(call.inputs, call.outputs)
            out.resize(rows)
            logProbs.clear()
            logProbs.get(out.values, out.offset(0), rows * vocabSize)
        }

        fun release() {
            calls.forEach { it?.close() }
            calls = emptyArray()
            capacity = 0
        }

        private fun grow(rows: Int) {
            release()
            capacity = rows
            frames = directFloats(rows * joinerDim)
            predictions = directFloats(rows * joinerDim)
            logProbs = directFloats(rows * vocabSize)
            calls = arrayOfNulls(rows + 1)
        }

        private inner class Call(rows: Int) : AutoCloseable {
            private val width = joinerDim.toLong()
            private val tensors = listOf(
                tensor(part(frames, rows * joinerDim), rows.toLong(), width),
                tensor(part(predictions, rows * joinerDim), rows.toLong(), width),
                tensor(part(logProbs, rows * vocabSize), rows.toLong(), vocabSize.toLong()),
            )
            val inputs = joiner.inputs(tensors[0], tensors[1])
            val outputs = joiner.outputs(tensors[2])

            override fun close() = tensors.forEach { it.close() }
        }
    }

    private companion object {
        const val ANY = -1L
        val ENVIRONMENT: OrtEnvironment by lazy { OrtEnvironment.getEnvironment() }

        fun options(threads: Int) = OrtSession.SessionOptions().apply {
            setIntraOpNumThreads(threads)
            setInterOpNumThreads(1)
            // Spinning threads burn a core between chunks and slow down whatever else runs.
            addConfigEntry("session.intra_op.allow_spinning", "0")
            setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR)
        }

        fun size(shape: LongArray): Int = shape.reduce(Long::times).toInt()

        fun directFloats(count: Int): FloatBuffer =
            ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer()

        fun directLongs(count: Int): LongBuffer =
            ByteBuffer.allocateDirect(8 * count).order(ByteOrder.nativeOrder()).asLongBuffer()

        fun part(buffer: FloatBuffer, count: Int): FloatBuffer = buffer.duplicate().apply { clear().limit(count) }

        fun tensor(buffer: FloatBuffer, vararg shape: Long): OnnxTensor =
            OnnxTensor.createTensor(ENVIRONMENT, buffer, shape)

        fun tensor(buffer: LongBuffer, vararg shape: Long): OnnxTensor =
            OnnxTensor.createTensor(ENVIRONMENT, buffer, shape)
    }

    /** One ONNX file; tensors in and out by position. Throws BundleError for one that can't be used. */
    private class Graph(
        bundle: Bundle,
        name: String,
        options: OrtSession.SessionOptions,
        inputShapes: List<LongArray>,
        outputShapes: List<LongArray>,
    ) : AutoCloseable {
        private val file = File(bundle.path, name)
        private val session: OrtSession
        private val inputNames: List<String>
        private val outputNames: List<String>

        init {
            session = try {
                options.use {
                    bundle.file(name)?.let { ENVIRONMENT.createSession(it.path, options) }
                        ?: ENVIRONMENT.createSession(bundle.read(name), options)
                }
            } catch (error: OrtException) {
                throw BundleError(
                    "$file: onnxruntime ${ENVIRONMENT.version} can't load it: ${error.message}; export the " +
                        "model again, or install a version of the app with a newer onnxruntime",
                    error,
                )
            }
            inputNames = session.inputInfo.keys.toList()
            outputNames = session.outputInfo.keys.toList()
            try {
                checkShapes(inputShapes, outputShapes)
            } catch (error: BundleError) {
                session.close()
                throw error
            }
        }

        fun inputs(vararg tensors: OnnxTensor): Map<String, OnnxTensor> = inputNames.zip(tensors).toMap()

        fun outputs(vararg tensors: OnnxTensor): Map<String, OnnxTensor> = outputNames.zip(tensors).toMap()

        /** Throws BundleError for what only shows when the graph runs. */
        fun run(
            inputs: Map<String, OnnxTensor>,
            outputs: Map<String, OnnxTensor>,
            options: OrtSession.RunOptions? = null,
        ) {
            try {
                session.run(inputs, emptySet(), outputs, options).close()
            } catch (error: OrtException) {
                throw BundleError(
                    "$file: onnxruntime ${ENVIRONMENT.version} can't run it: ${error.message}; export the " +
                        "model again",
                    error,
                )
            }
        }

        override fun close() = session.close()

        private fun checkShapes(inputs: List<LongArray>, outputs: List<LongArray>) {
            if (inputNames.size != inputs.size || outputNames.size != outputs.size) {
                throw BundleError(
                    "$file: ${inputNames.size} inputs and ${outputNames.size} outputs; expected " +
                        "${inputs.size} and ${outputs.size}; export the model again",
                )
            }
            val nodes = session.inputInfo.values + session.outputInfo.values
            for ((node, expected) in nodes.zip(inputs + outputs)) checkShape(node, expected)
        }

        private fun checkShape(node: NodeInfo, expected: LongArray) {
            val found = (node.info as TensorInfo).shape
            val fits = found.size == expected.size &&
                found.indices.all { found[it] == ANY || expected[it] == ANY || found[it] == expected[it] }
            if (!fits) {
                throw BundleError(
                    "$file: ${node.name} is ${found.toList()}, but bundle.json says ${expected.toList()}; " +
                        "export the model again",
                )
            }
        }
    }
}
