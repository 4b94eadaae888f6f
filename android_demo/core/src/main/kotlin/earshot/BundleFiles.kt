package earshot

import java.io.ByteArrayOutputStream
import java.io.Closeable
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.file.Files
import java.util.zip.ZipEntry
import java.util.zip.ZipFile

/** What to do about a bundle that isn't whole. */
const val ADVICE = "copy the bundle again, or export the model again"

private const val MAX_ENTRIES = 1000
private const val READ_BYTES = 1 shl 16

/**
 * The files of a model bundle, in a directory or in one `.zip`, which is read in place. Nothing in a zip
 * is trusted: each entry must be the plain name of a file, once.
 */
interface BundleFiles : Closeable {
    /** Of the directory or the zip. Messages name a file as one in it, also in a zip. */
    val path: File

    /** A file's bytes. Throws BundleError if there is no such file. */
    fun size(name: String): Long

    /** Open a file to read. Throws IOException or BundleError. */
    fun open(name: String): InputStream
}

/** Open the directory or the zip at [path]. Throws BundleError if it is neither. */
fun bundleFiles(path: File): BundleFiles = when {
    path.isDirectory -> Directory(path)
    !path.exists() -> throw BundleError("$path: no such directory or zip; expected a model bundle")
    else -> Zip(path)
}

/** Whether [name] is that of a file in the bundle itself. */
fun isPlainName(name: String): Boolean = name !in setOf("", ".", "..") && name.none { it in "/\\\u0000" }

/** The first bytes of a stream: a zip may hold more than it says. Throws IOException. */
fun InputStream.readAtMost(count: Int): ByteArray {
    val content = ByteArrayOutputStream()
    val block = ByteArray(minOf(count, READ_BYTES))
    while (content.size() < count) {
        val read = read(block, 0, minOf(block.size, count - content.size()))
        if (read < 0) break
        content.write(block, 0, read)
    }
    return content.toByteArray()
}

private class Directory(override val path: File) : BundleFiles {
    override fun size(name: String): Long {
        val file = File(path, name)
        if (Files.isSymbolicLink(file.toPath())) {
            throw BundleError(
                "$file: a symbolic link, which may lead out of the bundle; copy the file itself there",
            )
        }
        if (!file.isFile) throw BundleError("$file: missing from the bundle; $ADVICE")
        return file.length()
    }

    override fun open(name: String): InputStream = File(path, name).inputStream()

    override fun close() = Unit
}

private class Zip(override val path: File) : BundleFiles {
    private val archive = try {
        ZipFile(path)
    } catch (error: IOException) {
        throw BundleError(
            "$path: neither the directory nor the whole zip of a model bundle (${error.message}); $ADVICE",
            error,
        )
    }
    private val entries = HashMap<String, ZipEntry>()

    init {
        try {
            if (archive.size() > MAX_ENTRIES) {
                throw BundleError("$path: ${archive.size()} entries; expected a model bundle; $ADVICE")
            }
            archive.stream().forEach { check(it) }
        } catch (error: BundleError) {
            archive.close()
            throw error
        }
    }

    override fun size(name: String): Long = entry(name).size

    override fun open(name: String): InputStream = archive.getInputStream(entry(name))

    override fun close() = archive.close()

    private fun check(entry: ZipEntry) {
        if (!isPlainName(entry.name)) {
            throw BundleError(
                "$path: '${entry.name}' in it is not the name of a file; a bundle's zip has its files at the " +
                    "top, in no folder: zip them from within (cd BUNDLE && zip -0 ../NAME.zip *)",
            )
        }
        if (entries.put(entry.name, entry) != null) {
            throw BundleError("$path: '${entry.name}' is in it twice; don't use this bundle")
        }
    }

    private fun entry(name: String): ZipEntry =
        entries[name] ?: throw BundleError("${File(path, name)}: missing from the bundle; $ADVICE")
}
