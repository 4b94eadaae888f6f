package earshot.app

import android.content.Context
import android.net.Uri
import android.provider.OpenableColumns
import earshot.BundleError
import earshot.MANIFEST_NAME
import earshot.load
import java.io.File
import java.io.FileNotFoundException
import java.io.IOException

private const val BUILT_IN = "models/en" // in the assets
private const val ZIP = ".zip"

/** The model bundles on this phone: the one in the app, and those that the user brought as a zip. */
class Models(private val context: Context) {
    private val folder = File(context.filesDir, "models")
    private val builtIn = File(context.noBackupFilesDir, BUILT_IN)

    /** The names of those that the user brought. */
    val brought: List<String>
        get() = folder.list { _, name -> name.endsWith(ZIP) }?.sorted().orEmpty()

    /** Where the model of that name is, null being the built-in one. Throws IOException for a full disk. */
    fun path(name: String?): File {
        if (name == null) unpackBuiltIn()
        return if (name == null) builtIn else File(folder, name)
    }

    /**
     * Copy the zip that the user chose and load it once, its self-test included; return its name. What was
     * there under this name stays where the new one is bad. Throws BundleError, IOException.
     */
    fun bring(source: Uri): String {
        val incoming = File(context.noBackupFilesDir, "incoming")
        incoming.deleteRecursively()
        incoming.mkdirs()
        try {
            val file = File(incoming, nameOf(source))
            val stream = context.contentResolver.openInputStream(source)
                ?: throw FileNotFoundException(source.toString())
            stream.use { input -> file.outputStream().use { input.copyTo(it) } }
            load(file).close()
            folder.mkdirs()
            if (!file.renameTo(File(folder, file.name))) throw IOException(file.name)
            return file.name
        } catch (error: RuntimeException) { // whatever went wrong in the app that has the file
            throw IOException(error.message, error)
        } finally {
            incoming.deleteRecursively()
        }
    }

    /** A message of the bundle reader without the folders of this app, which nobody can open. */
    fun readable(error: BundleError): String = error.message.orEmpty()
        .replace("${context.noBackupFilesDir}/incoming/", "")
        .replace("$folder/", "")
        .replace("${context.noBackupFilesDir}/", "")

    /** onnxruntime reads files, so the assets are copied once, and again when an update has others. */
    private fun unpackBuiltIn() {
        val manifest = File(builtIn, MANIFEST_NAME)
        val expected = context.assets.open("$BUILT_IN/$MANIFEST_NAME").use { it.readBytes() }
        if (manifest.isFile && manifest.readBytes().contentEquals(expected)) return
        builtIn.deleteRecursively()
        builtIn.mkdirs()
        for (name in context.assets.list(BUILT_IN).orEmpty()) {
            if (name == MANIFEST_NAME) continue
            context.assets.open("$BUILT_IN/$name").use { input ->
                File(builtIn, name).outputStream().use { input.copyTo(it) }
            }
        }
        manifest.writeBytes(expected) // last: it says that the others are whole
    }

    private fun nameOf(source: Uri): String {
        val columns = arrayOf(OpenableColumns.DISPLAY_NAME)
        val shown = context.contentResolver.query(source, columns, null, null, null)?.use { rows ->
            if (rows.moveToFirst()) rows.getString(0) else null
        }
        val name = (shown ?: source.lastPathSegment.orEmpty()).substringAfterLast('/').filter { it != '\u0000' }
        return name.removeSuffix(ZIP).ifBlank { "model" } + ZIP
    }
}
