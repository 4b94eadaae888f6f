package earshot.engines

import earshot.readAtMost
import java.io.ByteArrayInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipInputStream

/** An array of numbers, as numpy keeps it. */
class NumpyArray(val shape: List<Int>, private val kind: String, private val data: ByteBuffer) {
    /** Whether it holds floats; else whole numbers. */
    val isFloat: Boolean get() = kind == "<f4"

    val size: Int get() = shape.fold(1, Int::times)

    fun floats(): FloatArray {
        if (kind != "<f4") throw IOException("an array of $kind; expected <f4")
        return FloatArray(size).also { data.asFloatBuffer().get(it) }
    }

    fun longs(): LongArray = LongArray(size) {
        when (kind) {
            "<i8" -> data.getLong(8 * it)
            "<i2" -> data.getShort(2 * it).toLong()
            "|u1" -> data.get(it).toLong() and 0xFF
            else -> throw IOException("an array of $kind; expected <i8, <i2 or |u1")
        }
    }
}

private const val MAX_ARRAY_BYTES = 1 shl 26

/** Read the arrays [names] of a `.npz` file. Throws IOException if it is damaged or has others. */
fun readNpz(content: ByteArray, vararg names: String): List<NumpyArray> {
    val arrays = HashMap<String, NumpyArray>()
    ZipInputStream(ByteArrayInputStream(content)).use { archive ->
        while (true) {
            val name = (archive.nextEntry ?: break).name.removeSuffix(".npy")
            if (name in names) arrays[name] = readNpy(archive.readAtMost(MAX_ARRAY_BYTES))
        }
    }
    return names.map { arrays[it] ?: throw IOException("no array '$it' in it") }
}

// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0
private val HEADER = Regex("""\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \}\s*""")
private val ITEM_BYTES = mapOf("<f4" to 4, "<i8" to 8, "<i2" to 2, "|u1" to 1)

private fun readNpy(bytes: ByteArray): NumpyArray {
    val data = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
    if (bytes.size < 10 || data.getInt(0) != 0x4D554E93 || data.getShort(6).toInt() != 1) {
        throw IOException("not an array of numpy's format 1.0")
    }
    val start = 10 + (data.getShort(8).toInt() and 0xFFFF)
    val header = if (start <= bytes.size) String(bytes, 10, start - 10, Charsets.ISO_8859_1) else ""
    val (kind, dimensions) = HEADER.matchEntire(header)?.destructured
        ?: throw IOException("not an array of numpy's format 1.0: $header")
    val itemBytes = ITEM_BYTES[kind]
        ?: throw IOException("an array of $kind; expected one of ${ITEM_BYTES.keys.joinToString(", ")}")
    val shape = dimensions.split(",").map { it.trim() }.filter { it.isNotEmpty() }
        .map { it.toIntOrNull() ?: throw IOException("an array of shape ($dimensions)") }
    val stated = shape.fold(itemBytes.toDouble(), Double::times) // in doubles: it may be beyond any integer
    if (stated != (bytes.size - start).toDouble()) throw IOException("an array that is cut off")
    return NumpyArray(shape, kind, data.position(start).slice().order(ByteOrder.LITTLE_ENDIAN))
}
