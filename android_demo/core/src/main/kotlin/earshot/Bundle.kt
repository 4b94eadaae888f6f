package earshot

import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction
import java.security.MessageDigest
import org.json.JSONObject

/** A model bundle: the directory, or the one `.zip`, that carries a model to a device; see asr/bundle.py. */

const val SCHEMA_VERSION = 5
const val MANIFEST_NAME = "bundle.json"

/**
 * Feature frames that an encoder call shares with the next: the subsampling is two convolutions of
 * width 3 and stride 2 without padding, so C encoder frames need 4C + 3 feature frames.
 */
const val SUBSAMPLING_OVERLAP = 3

/** Encoder frames of the longest encoder call, 10.24 s: the tables of positions end there. */
const val MAX_CHUNK_FRAMES = 256

private const val MAX_FRAMES = 1000 // what streaming.* may state; more would be memory, not a model
private const val MAX_MANIFEST_BYTES = 1_000_000
private const val BLOCK_BYTES = 1 shl 16 // of a file that is hashed
private const val MAX_FILE_BYTES = Int.MAX_VALUE.toLong() // ONNX holds no more

/**
 * Engines of this version, the one to prefer first. A graph in onnxruntime's own format loads faster, but
 * is made for the version that wrote it.
 */
private val PREFERRED_ENGINES = listOf("onnx", "ort")

private const val BLANK_SYMBOL = "<blk>"
private const val UNK_SYMBOL = "<unk>"

/** The geometry of streaming: how feature frames become chunks. */
data class StreamingConfig(
    val subsamplingFactor: Int = 4, // feature frames (10 ms) per encoder frame
    val chunkFrames: Int = 8, // encoder frames (40 ms) per encoder call, unless a stream has its own
    val leftContextFrames: Int = 64, // encoder frames that attention sees behind the chunk
    val tailPaddingFrames: Int = 19, // feature frames of silence that end a stream, as in training
) {
    /** The silence that ends a stream, in samples at 16 kHz. */
    val tailSamples: Int get() = tailPaddingFrames * FRAME_SHIFT

    /** How many feature frames a call that gives [chunkFrames] encoder frames takes. */
    fun featureFrames(chunkFrames: Int): Int = subsamplingFactor * chunkFrames + SUBSAMPLING_OVERLAP

    /** How many whole encoder frames [featureFrames] feature frames give. */
    fun encoderFrames(featureFrames: Int): Int =
        maxOf(0, Math.floorDiv(featureFrames - SUBSAMPLING_OVERLAP, subsamplingFactor))
}

/** The dimensions of the graphs. */
data class ModelConfig(
    val encoderLayers: Int,
    val encoderDim: Int,
    val convKernel: Int, // frames, odd; causal
    val joinerDim: Int,
    val contextSize: Int, // tokens that the predictor sees
    val vocabSize: Int, // blank included
    val parameters: Int,
)

/** One variant of the graphs: their arithmetic, what runs them, and their file names. */
data class GraphFiles(
    val engine: String, // "onnx"; "ort": the same runtime's own format; or one of a later version
    val precision: String, // such as "int8"
    val encoder: String,
    val predictor: String,
    val joiner: String,
)

/** What a file must be. */
data class FileEntry(val sha256: String, val bytes: Long)

/** Max abs errors against the golden outputs: those found, or those tolerated. */
data class GoldenErrors(val encoderOut: Double, val logProbs: Double)

/** The self-test: an input, its output on the exporting machine, how far off a device may be. */
data class Golden(val file: String, val tolerance: Map<String, GoldenErrors>)

/** A bundle and where it lies. [openBundle] reads one. */
data class Bundle(
    val path: File, // of the directory or the zip
    val name: String,
    val language: String,
    val model: ModelConfig,
    val variants: List<GraphFiles>, // the precisions in the order of preference
    val files: Map<String, FileEntry>, // every file of the bundle but bundle.json
    val golden: Golden,
    val tokens: String,
    val features: FeatureConfig,
    val streaming: StreamingConfig,
    val card: JSONObject, // the model card: free form
) {
    /** The length of an encoder frame. */
    val frameMs: Int get() = Math.rint(streaming.subsamplingFactor * features.frameShiftMs).toInt()

    /** The precisions that the bundle has, the exporter's choice first. */
    val precisions: List<String> get() = variants.map { it.precision }.distinct()

    /**
     * The graph files of a variant: without a precision those of the first that the bundle has, and for
     * the engine that this version prefers. Throws BundleError if the bundle has no such variant.
     */
    fun graphs(precision: String? = null): GraphFiles {
        val wanted = precision ?: precisions.first()
        val found = variants.filter { it.precision == wanted }
        return PREFERRED_ENGINES.firstNotNullOfOrNull { engine -> found.find { it.engine == engine } }
            ?: found.firstOrNull()
            ?: throw BundleError(
                "$path: this model has no precision '$wanted'; it has ${precisions.sorted().joinToString(", ")}",
            )
    }

    /** Where a file is on the disk, null in a zip. */
    fun file(name: String): File? = if (path.isDirectory) File(path, name) else null

    /** What is in a file. Throws BundleError if it isn't what `bundle.json` says. */
    fun read(name: String): ByteArray = bundleFiles(path).use { files ->
        val content = ByteArrayOutputStream()
        verify(files, name, this.files.getValue(name)) { block, count -> content.write(block, 0, count) }
        content.toByteArray()
    }

    /** The symbol of each token id. Throws BundleError if the table is not whole. */
    fun readTokens(): List<String> = readTokens(File(path, tokens), read(tokens), model.vocabSize)
}

/**
 * Read and verify the bundle at [path], a directory or a zip.
 *
 * Throws BundleError: no bundle there, another schema version, an unknown or missing key, or a file that
 * is missing, truncated, altered, or outside the bundle. The message names the file and says what to do.
 */
fun openBundle(path: File): Bundle = bundleFiles(path).use { files ->
    val manifest = File(path, MANIFEST_NAME)
    val content = readManifest(path, manifest, files)
    val version = content.remove("schema_version")
    if (version != SCHEMA_VERSION) {
        throw BundleError(
            "$manifest: schema version $version, but this version of the app reads $SCHEMA_VERSION; " +
                "export the model again, or install the version that it was made with",
        )
    }
    val bundle = try {
        bundleFromJson(path, content)
    } catch (error: SchemaError) {
        throw BundleError("$manifest: ${error.message}", error)
    }
    checkReferences(bundle, manifest)
    for ((name, entry) in bundle.files) verify(files, name, entry)
    bundle
}

private fun readManifest(path: File, manifest: File, files: BundleFiles): JSONObject {
    try {
        files.size(MANIFEST_NAME)
    } catch (error: BundleError) {
        throw BundleError(
            "$path: no $MANIFEST_NAME in it, so it is not a model bundle; asr-export makes one",
            error,
        )
    }
    try {
        val content = files.open(MANIFEST_NAME).use { it.readAtMost(MAX_MANIFEST_BYTES + 1) }
        if (content.size > MAX_MANIFEST_BYTES) {
            throw BundleError("$manifest: larger than $MAX_MANIFEST_BYTES bytes; $ADVICE")
        }
        return parseObject(utf8(content))
    } catch (error: CharacterCodingException) {
        throw BundleError("$manifest: damaged: not UTF-8; copy the bundle again", error)
    } catch (error: IOException) {
        throw BundleError("$manifest: can't be read: ${error.message}", error)
    } catch (error: SchemaError) {
        throw BundleError("$manifest: ${error.message}; copy the bundle again", error)
    }
}

private fun bundleFromJson(path: File, content: JSONObject): Bundle {
    val fields = Fields(
        content, "", "name", "language", "model", "variants", "files", "golden", "tokens", "features",
        "streaming", "card",
        "language_model", // of beam search; the app searches greedily and doesn't read it
    )
    val golden = Fields(fields.json("golden"), "golden", "file", "tolerance")
    return Bundle(
        path,
        name = fields.text("name"),
        language = fields.text("language"),
        model = modelConfig(fields.json("model")),
        variants = fields.list("variants").mapIndexed { number, variant -> graphFiles(variant, "variants.$number") },
        files = readMembers(fields.json("files"), "files") { member, where ->
            val entry = Fields(member, where, "sha256", "bytes")
            FileEntry(entry.text("sha256"), entry.long("bytes"))
        },
        golden = Golden(golden.text("file"), readMembers(golden.json("tolerance"), "golden.tolerance", ::tolerance)),
        tokens = fields.text("tokens"),
        features = featureConfig(fields.json("features")),
        streaming = streamingConfig(fields.json("streaming")),
        card = fields.json("card"),
    )
}

private fun graphFiles(content: JSONObject, where: String): GraphFiles {
    val fields = Fields(content, where, "engine", "precision", "encoder", "predictor", "joiner")
    return GraphFiles(
        fields.text("engine"), fields.text("precision"), fields.text("encoder"), fields.text("predictor"),
        fields.text("joiner"),
    )
}

private fun modelConfig(content: JSONObject): ModelConfig {
    val fields = Fields(
        content, "model", "encoder_layers", "encoder_dim", "conv_kernel", "joiner_dim", "context_size",
        "vocab_size", "parameters",
    )
    fun size(key: String) = fields.int(key).also {
        if (it < 1) throw SchemaError("model.$key: expected 1 or more, got $it")
    }
    return ModelConfig(
        size("encoder_layers"), size("encoder_dim"), size("conv_kernel"), size("joiner_dim"),
        size("context_size"), size("vocab_size"), size("parameters"),
    )
}

private fun featureConfig(content: JSONObject): FeatureConfig {
    val fields = Fields(
        content, "features", "sample_rate", "num_mel_bins", "frame_length_ms", "frame_shift_ms",
        "preemphasis", "low_hz", "high_hz",
    )
    val here = FeatureConfig()
    fun computed(key: String, expected: Number) {
        val found = if (expected is Int) fields.int(key) else fields.float(key)
        if (found != expected) throw SchemaError("features.$key: this version of the app computes $expected, got $found")
    }
    computed("sample_rate", here.sampleRate)
    computed("num_mel_bins", here.numMelBins)
    computed("frame_length_ms", here.frameLengthMs)
    computed("frame_shift_ms", here.frameShiftMs)
    computed("preemphasis", here.preemphasis)
    computed("low_hz", here.lowHz)
    computed("high_hz", here.highHz)
    return here
}

private fun streamingConfig(content: JSONObject): StreamingConfig {
    val fields = Fields(
        content, "streaming", "subsampling_factor", "chunk_frames", "left_context_frames",
        "tail_padding_frames",
    )
    fun size(key: String, most: Int = MAX_FRAMES) = fields.int(key).also {
        if (it !in 1..most) throw SchemaError("streaming.$key: expected 1 to $most, got $it")
    }
    return StreamingConfig(
        size("subsampling_factor"), size("chunk_frames", MAX_CHUNK_FRAMES), size("left_context_frames"),
        size("tail_padding_frames"),
    )
}

private fun tolerance(content: JSONObject, where: String): GoldenErrors {
    val fields = Fields(content, where, "encoder_out", "log_probs")
    fun positive(key: String) = fields.float(key).also {
        if (it <= 0) throw SchemaError("$where.$key: expected a positive number, got $it")
    }
    return GoldenErrors(positive("encoder_out"), positive("log_probs"))
}

/** The parts of the manifest must agree with each other, and stay inside the bundle. */
private fun checkReferences(bundle: Bundle, manifest: File) {
    for ((name, entry) in bundle.files) {
        if (!isPlainName(name)) {
            throw BundleError(
                "$manifest: files: '$name' is not the name of a file in the bundle's own directory; don't " +
                    "use this bundle",
            )
        }
        if (entry.bytes !in 0..MAX_FILE_BYTES) {
            throw BundleError("$manifest: files.$name.bytes: expected 0 to $MAX_FILE_BYTES, got ${entry.bytes}")
        }
    }
    val used = mutableMapOf("tokens" to bundle.tokens, "golden.file" to bundle.golden.file)
    for ((number, graphs) in bundle.variants.withIndex()) {
        used["variants.$number.encoder"] = graphs.encoder
        used["variants.$number.predictor"] = graphs.predictor
        used["variants.$number.joiner"] = graphs.joiner
        if (graphs.precision !in bundle.golden.tolerance) {
            throw BundleError("$manifest: golden.tolerance has no '${graphs.precision}'")
        }
        if (bundle.variants.count { it.precision == graphs.precision && it.engine == graphs.engine } > 1) {
            throw BundleError("$manifest: variants: ${graphs.precision} for ${graphs.engine} is there twice")
        }
    }
    for ((key, name) in used) {
        if (name !in bundle.files) throw BundleError("$manifest: $key names '$name', which is not listed in files")
    }
    val factor = bundle.streaming.subsamplingFactor
    if (factor != 4 || bundle.model.contextSize != 2) {
        throw BundleError(
            "$manifest: expected subsampling_factor 4 and context_size 2, got $factor and " +
                "${bundle.model.contextSize}",
        )
    }
}

/** Read a file, no more of it than is expected, and give it to [take] block by block. */
private fun verify(
    files: BundleFiles,
    name: String,
    expected: FileEntry,
    take: (ByteArray, Int) -> Unit = { _, _ -> },
) {
    val file = File(files.path, name)
    val size = files.size(name) // first: it costs nothing, the digest reads the file
    if (size != expected.bytes) {
        throw BundleError("$file: $size bytes, but ${expected.bytes} were expected; $ADVICE")
    }
    val digest = MessageDigest.getInstance("SHA-256")
    try {
        files.open(name).use { stream ->
            val block = ByteArray(BLOCK_BYTES)
            var left = expected.bytes
            while (left > 0) {
                val count = stream.read(block, 0, minOf(left, block.size.toLong()).toInt())
                if (count < 0) break
                digest.update(block, 0, count)
                take(block, count)
                left -= count
            }
        }
    } catch (error: IOException) {
        throw BundleError("$file: can't be read: ${error.message}; $ADVICE", error)
    }
    val found = digest.digest().joinToString("") { "%02x".format(it) }
    if (found != expected.sha256) {
        throw BundleError(
            "$file: its content was changed (sha256 ${found.take(12)}..., expected " +
                "${expected.sha256.take(12)}...); $ADVICE",
        )
    }
}

private fun readTokens(file: File, content: ByteArray, vocabSize: Int): List<String> {
    val lines = try {
        utf8(content).removeSuffix("\n").split("\n")
    } catch (error: CharacterCodingException) {
        throw BundleError("$file: can't be read: not UTF-8", error)
    }
    val symbols = lines.mapIndexed { number, line ->
        val symbol = line.substringBeforeLast(' ', "")
        if (symbol.isEmpty() || line.substringAfterLast(' ') != "$number") {
            throw BundleError("$file:${number + 1}: expected 'symbol $number', got '$line'")
        }
        symbol
    }
    if (symbols.take(2) != listOf(BLANK_SYMBOL, UNK_SYMBOL) || symbols.size != vocabSize) {
        throw BundleError(
            "$file: expected $vocabSize tokens, $BLANK_SYMBOL and $UNK_SYMBOL first; got ${symbols.size} " +
                "tokens, ${symbols.take(2)} first",
        )
    }
    return symbols
}

/** Throws CharacterCodingException for bytes that are not UTF-8. */
private fun utf8(content: ByteArray): String {
    val decoder = Charsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT)
        .onUnmappableCharacter(CodingErrorAction.REPORT)
    return decoder.decode(ByteBuffer.wrap(content)).toString()
}
