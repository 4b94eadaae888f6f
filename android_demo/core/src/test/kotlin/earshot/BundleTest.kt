package earshot

import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.file.Files
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

/** A bundle that is not exactly what its exporter wrote is refused, and the message says where. */
class BundleTest {
    @TempDir
    lateinit var folder: File

    private lateinit var bundle: File

    @BeforeEach
    fun copy() {
        bundle = File(folder, "bundle")
        BUILT_IN.copyRecursively(bundle)
        File(bundle, "__init__.py").delete()
    }

    private fun refusal(path: File = bundle): String = assertThrows<BundleError> { openBundle(path) }.message!!

    private fun assertRefused(message: String, path: File = bundle) {
        val found = refusal(path)
        assertTrue(message in found, found)
    }

    private fun edit(change: JSONObject.() -> Unit) {
        val manifest = File(bundle, MANIFEST_NAME)
        manifest.writeText(JSONObject(manifest.readText()).apply(change).toString())
    }

    /** Make a fresh copy, change its manifest, and hold the message against [message]. */
    private fun assertEditRefused(message: String, change: JSONObject.() -> Unit) {
        File(BUILT_IN, MANIFEST_NAME).copyTo(File(bundle, MANIFEST_NAME), overwrite = true)
        edit(change)
        assertRefused(message)
        assertRefused("bundle.json")
    }

    private fun JSONObject.at(vararg keys: String) = keys.fold(this) { here, key -> here.getJSONObject(key) }

    private fun JSONObject.variant() = getJSONArray("variants").getJSONObject(0)

    @Test
    fun `the built-in model is read`() {
        val found = openBundle(bundle)
        assertEquals("int8", found.precisions.first())
        assertEquals(found.model.vocabSize, found.readTokens().size)
        assertEquals(35, found.streaming.featureFrames(8))
        assertEquals(listOf(0, 0, 1, 7, 8), listOf(0, 6, 7, 34, 35).map(found.streaming::encoderFrames))
    }

    @Test
    fun `no bundle there`() {
        assertRefused("no such directory or zip", File(folder, "nowhere"))
        assertRefused("no bundle.json in it", folder)
        assertRefused("neither the directory nor the whole zip", File(bundle, "tokens.txt"))
    }

    @Test
    fun `a damaged manifest`() {
        for (content in listOf("{", "\u0000", "", "[".repeat(100_000), "[]", "{} {}")) {
            File(bundle, MANIFEST_NAME).writeText(content)
            assertRefused("bundle.json: ")
        }
        File(bundle, MANIFEST_NAME).writeBytes(byteArrayOf(-1, -2))
        assertRefused("bundle.json: damaged: not UTF-8")
        File(bundle, MANIFEST_NAME).writeBytes(ByteArray(2_000_000))
        assertRefused("bundle.json: larger than")
    }

    @Test
    fun `another schema version`() {
        for (version in listOf<Any>(0, SCHEMA_VERSION + 1, "$SCHEMA_VERSION", JSONObject.NULL)) {
            edit { put("schema_version", version) }
            assertRefused("schema version $version, but this version of the app reads $SCHEMA_VERSION")
        }
    }

    @Test
    fun `wrong keys and values are named`() {
        assertEditRefused("unknown key 'varients'; did you mean 'variants'?") { put("varients", 1) }
        assertEditRefused("unknown key 'zzzzzzzzzz'; known: name, language,") { put("zzzzzzzzzz", 1) }
        assertEditRefused("missing key 'tokens'") { remove("tokens") }
        assertEditRefused("missing key 'model.encoder_dim'") { at("model").remove("encoder_dim") }
        assertEditRefused("model.encoder_dim: expected int, got '4'") { at("model").put("encoder_dim", "4") }
        assertEditRefused("model.encoder_dim: expected int, got true") { at("model").put("encoder_dim", true) }
        assertEditRefused("model.encoder_dim: expected 1 or more, got -4") { at("model").put("encoder_dim", -4) }
        assertEditRefused("name: expected text, got 3") { put("name", 3) }
        assertEditRefused("files: expected an object") { put("files", JSONArray()) }
        assertEditRefused("variants: expected a list") { put("variants", JSONArray()) }
        assertEditRefused("golden.file: expected text") { at("golden").put("file", JSONArray()) }
        assertEditRefused("log_probs: expected a positive number, got -1") {
            at("golden", "tolerance", "int8").put("log_probs", -1)
        }
        assertEditRefused("golden.tolerance has no 'int8'") { at("golden").put("tolerance", JSONObject()) }
        assertEditRefused("streaming.chunk_frames: expected 1 to 256, got 0") { at("streaming").put("chunk_frames", 0) }
        assertEditRefused("expected subsampling_factor 4") { at("streaming").put("subsampling_factor", 8) }
        assertEditRefused("computes 16000, got 8000") { at("features").put("sample_rate", 8000) }
        assertEditRefused("names 'x.onnx', which is not listed") { variant().put("joiner", "x.onnx") }
        assertEditRefused("missing key 'variants.0.engine'") { variant().remove("engine") }
        assertEditRefused("is there twice") { getJSONArray("variants").put(variant()) }
        assertEditRefused("files.tokens.txt.bytes: expected 0 to") { at("files", "tokens.txt").put("bytes", -1) }
    }

    @Test
    fun `files outside of the bundle are refused`() {
        File(folder, "outside.onnx").writeText("x")
        for (name in listOf("../outside.onnx", "/etc/passwd", "sub/file", "..\\x", "..", "")) {
            assertEditRefused("is not the name of a file in the bundle's own directory") {
                at("files").put(name, JSONObject("""{"sha256": "0", "bytes": 1}"""))
            }
        }
        File(BUILT_IN, MANIFEST_NAME).copyTo(File(bundle, MANIFEST_NAME), overwrite = true)
        val tokens = File(bundle, "tokens.txt")
        tokens.delete()
        Files.createSymbolicLink(tokens.toPath(), File(BUILT_IN, "tokens.txt").absoluteFile.toPath())
        assertRefused("tokens.txt: a symbolic link")
        tokens.delete()
    }

    @Test
    fun `missing, truncated and altered files are named`() {
        for (name in openBundle(bundle).files.keys) {
            val file = File(bundle, name)
            val content = file.readBytes()
            file.writeBytes(content.copyOf(content.size - 1))
            assertRefused("$name: ${content.size - 1} bytes, but ${content.size} were expected")
            file.writeBytes(content.clone().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() })
            assertRefused("$name: its content was changed")
            file.delete()
            assertRefused("$name: missing from the bundle")
            file.writeBytes(content)
        }
    }

    @Test
    fun `a zip is a bundle too`() {
        val zip = File(folder, "model.zip")
        fun pack(vararg more: String) = ZipOutputStream(zip.outputStream()).use { out ->
            for (file in bundle.listFiles()!!) {
                out.putNextEntry(ZipEntry(file.name))
                out.write(file.readBytes())
            }
            for (name in more) out.putNextEntry(ZipEntry(name))
        }
        pack()
        load(zip).use { recognizer ->
            val stream = recognizer.stream()
            stream.accept(recordings().getValue("rain"))
            assertTrue(stream.finish().text.isNotEmpty())
        }
        pack("../escape")
        assertRefused("'../escape' in it is not the name of a file", zip)
        zip.writeBytes(zip.readBytes().copyOf(1_000_000))
        assertRefused("neither the directory nor the whole zip", zip)
    }

    /** What a zip says of a size need not be so: no more is unpacked of it than is read. */
    @Test
    fun `a manifest that unpacks to more than it says fills no memory`() {
        val zip = File(folder, "bomb.zip")
        ZipOutputStream(zip.outputStream()).use { out ->
            out.putNextEntry(ZipEntry(MANIFEST_NAME))
            val block = ByteArray(1 shl 20) { ' '.code.toByte() }
            repeat(1_000) { out.write(block) }
        }
        val content = zip.readBytes()
        val size = content.size - 22 - 46 - MANIFEST_NAME.length + 24 // in the only entry of the directory at its end
        for (i in 0 until 4) content[size + i] = if (i == 0) 100 else 0
        zip.writeBytes(content)
        assertRefused("bundle.json: larger than 1000000 bytes", zip)
    }

    @Test
    fun `a damaged self-test is refused, whatever is wrong with its arrays`() {
        val whole = mapOf(
            "features" to npy("<f4", "(67, 80)", 4 * 67 * 80),
            "encoder_out.int8" to npy("<f4", "(16, 256)", 4 * 16 * 256),
            "contexts" to npy("<i8", "(16, 2)", 8 * 16 * 2),
            "log_probs.int8" to npy("<f4", "(16, 256)", 4 * 16 * 256),
        )
        val broken = listOf(
            "features" to npy("<f8", "(67, 80)", 8 * 67 * 80),
            "features" to npy("|O", "(67, 80)", 4 * 67 * 80),
            "features" to npy("<f4", "(99999999999, 80)", 0),
            "features" to npy("<f4", "(65536, 65536)", 0),
            "features" to npy("<f4", "(67, 80)", 4 * 67 * 80 - 1),
            "features" to npy("<f4", "(3, 80)", 4 * 3 * 80),
            "features" to npy("<f4", "(67, 80)", 4 * 67 * 80).also { it[9] = -1 }, // 65 kB of header
            "features" to ByteArray(0),
            "encoder_out.int8" to npy("<f4", "()", 4),
            "encoder_out.int8" to npy("<f4", "(0, 256)", 0),
            "encoder_out.int8" to npy("<f4", "(16, 255)", 4 * 16 * 255),
            "contexts" to npy("<f4", "(16, 2)", 4 * 16 * 2),
            "contexts" to npy("<i8", "(16, 3)", 8 * 16 * 3),
        )
        for ((name, array) in broken) {
            write("golden.npz", npz(whole + (name to array)))
            assertLoadRefused("golden.npz: can't be used: ")
        }
    }

    private fun npy(kind: String, shape: String, bytes: Int): ByteArray {
        val header = "{'descr': '$kind', 'fortran_order': False, 'shape': $shape, }\n".toByteArray()
        return byteArrayOf(0x93.toByte()) + "NUMPY".toByteArray() +
            byteArrayOf(1, 0, header.size.toByte(), 0) + header + ByteArray(bytes)
    }

    private fun npz(arrays: Map<String, ByteArray>): ByteArray = ByteArrayOutputStream().also { content ->
        ZipOutputStream(content).use { out ->
            for ((name, array) in arrays) {
                out.putNextEntry(ZipEntry("$name.npy"))
                out.write(array)
            }
        }
    }.toByteArray()

    @Test
    fun `a wrong token table`() {
        for ((table, message) in listOf(
            "<blk> 0\n<unk> 1\n" to "tokens, <blk> and <unk> first; got 2 tokens",
            "<blk> 0\n<unk> 2\n" to "tokens.txt:2: expected 'symbol 1', got '<unk> 2'",
            "<blk>\n" to "tokens.txt:1: expected 'symbol 0'",
        )) {
            write("tokens.txt", table.toByteArray())
            val found = assertThrows<BundleError> { openBundle(bundle).readTokens() }.message!!
            assertTrue(message in found, found)
        }
    }

    @Test
    fun `graphs that can not be used, and machines that miscompute`() {
        assertTrue("no precision 'fp64'; it has" in assertThrows<BundleError> { load(bundle, "fp64") }.message!!)
        val joiner = File(bundle, openBundle(bundle).graphs().joiner)
        val whole = joiner.readBytes()
        write(joiner.name, "no graph".toByteArray())
        assertLoadRefused("${joiner.name}: onnxruntime")
        File(BUILT_IN, openBundle(bundle).graphs().predictor).let { write(joiner.name, it.readBytes()) }
        assertLoadRefused("inputs and 1 outputs; expected 2 and 1")
        write(joiner.name, whole)
        edit { at("model").put("encoder_layers", 3) }
        assertLoadRefused("but bundle.json says [3, ")
        edit {
            at("model").put("encoder_layers", openBundle(BUILT_IN).model.encoderLayers)
            at("golden", "tolerance", "int8").put("log_probs", 1e-30)
        }
        write(joiner.name, whole.clone().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() }) // of a weight
        assertLoadRefused("the self-test failed: on this machine log_probs of the int8 graphs is off by")
        write(joiner.name, whole)
        edit { at("golden", "tolerance", "int8").put("log_probs", 1.0) }
        edit { variant().put("engine", "abacus") }
        assertLoadRefused("are for the engine 'abacus'")
        edit { variant().put("engine", "onnx") }
        write("golden.npz", "no arrays".toByteArray())
        assertLoadRefused("golden.npz: can't be used: no array 'features' in it")
    }

    private fun assertLoadRefused(message: String) {
        val found = assertThrows<BundleError> { load(bundle) }.message!!
        assertTrue(message in found, found)
    }

    /** Replace a file, and describe it as it is now. */
    private fun write(name: String, content: ByteArray) {
        File(bundle, name).writeBytes(content)
        val digest = java.security.MessageDigest.getInstance("SHA-256").digest(content)
        edit {
            val entry = JSONObject(mapOf("sha256" to digest.joinToString("") { "%02x".format(it) }, "bytes" to content.size))
            at("files").put(name, entry)
        }
    }
}
