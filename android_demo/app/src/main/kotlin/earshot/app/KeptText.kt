package earshot.app

import java.io.File

/**
 * The text of the screen on the disk, a segment a line, until the user clears it: of a process that is
 * killed, no more is lost than the open segment. (What Android itself keeps of an activity must be small.)
 */
class KeptText(private val file: File) {
    private var kept: List<String>? = null // what the file holds; null: not known

    /** What is kept. Throws IOException. */
    fun read(): List<String> =
        (if (file.isFile) file.readLines() else emptyList()).also { kept = it }

    /** Have the file hold [segments], of which it mostly has all but the last. Throws IOException. */
    fun keep(segments: List<String>) {
        val before = kept
        kept = null // if writing fails
        if (before != null && segments.size >= before.size && segments.subList(0, before.size) == before) {
            file.appendText(lines(segments.drop(before.size)))
        } else {
            file.writeText(lines(segments))
        }
        kept = segments
    }

    private fun lines(segments: List<String>) = segments.joinToString("") { "$it\n" }
}
