package earshot.app

import java.io.File
import java.io.IOException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** The file has what the screen has, whatever came before. */
class KeptTextTest {
    @get:Rule
    val folder = TemporaryFolder()

    private fun file() = File(folder.root, "text.txt")

    @Test
    fun `what is kept last is read, by this process and the next`() {
        val text = KeptText(file())
        assertEquals(emptyList<String>(), text.read())
        for (segments in listOf(
            listOf("one"), listOf("one", "two"), listOf("one", "two"), emptyList(), listOf("three"), listOf("four", "five"),
        )) {
            text.keep(segments)
            assertEquals(segments, KeptText(file()).read())
        }
        KeptText(file()).keep(listOf("six")) // without having read
        assertEquals(listOf("six"), text.read())
    }

    @Test
    fun `what failed to be written is written the next time, once`() {
        val text = KeptText(file())
        text.keep(listOf("one"))
        val content = file().readBytes()
        file().delete()
        file().mkdir() // such as a full disk
        assertThrows(IOException::class.java) { text.keep(listOf("one", "two")) }
        file().delete()
        file().writeBytes(content + "tw".toByteArray())
        text.keep(listOf("one", "two", "three"))
        assertEquals(listOf("one", "two", "three"), KeptText(file()).read())
    }
}
