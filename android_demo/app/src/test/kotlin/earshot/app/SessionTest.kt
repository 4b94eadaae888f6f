package earshot.app

import android.net.Uri
import earshot.Budget
import earshot.MANIFEST_NAME
import earshot.Overrun
import earshot.residentMb
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream
import java.nio.ByteBuffer
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.json.JSONObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf

/** Listening with the real model and a microphone that does what a test wants. */
@RunWith(RobolectricTestRunner::class)
class SessionTest {
    private lateinit var session: Session

    @Before
    fun open() {
        app.settings.budget = Budget(rtf = 5.0) // any machine holds that, however busy
        session = Session(app)
        await("the model") { session.state.phase == Phase.READY }
    }

    @After
    fun close() = session.close()

    private fun listen(microphone: Microphones) {
        app.microphones = microphone
        session.start()
    }

    private fun bring(name: String, content: ByteArray) {
        val document = Uri.parse("content://documents/$name")
        shadowOf(app.contentResolver).registerInputStream(document, ByteArrayInputStream(content))
        session.bring(document)
        await("the end of loading") { session.state.phase != Phase.LOADING }
    }

    private fun builtInZip(change: (String, ByteArray) -> ByteArray = { _, content -> content }): ByteArray {
        val zip = ByteArrayOutputStream()
        ZipOutputStream(zip).use { out ->
            for (file in File("asr/models/en").listFiles()!!.filter { it.isFile }) {
                out.putNextEntry(ZipEntry(file.name))
                out.write(change(file.name, file.readBytes()))
            }
        }
        return zip.toByteArray()
    }

    @Test
    fun `what is said becomes text, to the last sample before the stop`() {
        val recording = readRecordings(app.assets).first()
        val microphone = FakeMicrophone(recording.samples)
        var loudest = 0f
        session.onLevel = { loudest = maxOf(loudest, it) }
        listen { microphone }
        await("words") { session.state.phase == Phase.LISTENING && session.state.text.length > 20 }
        session.stop()
        assertEquals(Phase.FINISHING, session.state.phase)
        await("the end") { session.state.phase == Phase.READY }
        assertUnderstood(recording, session.state.text)
        assertEquals("", session.state.stable + session.state.unstable)
        assertTrue(microphone.isClosed)
        assertTrue("a level of $loudest", loudest in 0.01f..1f)
        assertEquals(0.0, session.state.costs!!.lostS, 0.0)
        assertNull(session.state.notice)
    }

    @Test
    fun `a microphone that is lost leaves the text`() {
        val recording = readRecordings(app.assets)[1]
        listen { FakeMicrophone(recording.samples, isLostAtEnd = true) }
        await("the loss") { session.state.phase == Phase.READY }
        assertEquals(Notice(R.string.microphone_lost), session.state.notice)
        assertUnderstood(recording, session.state.text)
    }

    @Test
    fun `a microphone that can't be opened is told, and can be tried again`() {
        listen { throw MicrophoneError(R.string.microphone_unavailable) }
        await("the end") { session.state.phase == Phase.READY }
        assertEquals(Notice(R.string.microphone_unavailable), session.state.notice)
        listen { FakeMicrophone(ShortArray(0)) }
        await("listening") { session.state.phase == Phase.LISTENING }
        assertNull(session.state.notice)
    }

    @Test
    fun `another app that takes the microphone is told, and for how long`() {
        var silence: (Boolean) -> Unit = {}
        listen { onSilenced ->
            silence = onSilenced
            FakeMicrophone(ShortArray(0))
        }
        await("listening") { session.state.phase == Phase.LISTENING }
        silence(true)
        await("the notice") { session.state.notice?.text == R.string.silenced }
        silence(false)
        await("the other notice") { session.state.notice?.text == R.string.was_silenced }
        assertEquals(Phase.LISTENING, session.state.phase)
        silence(true)
        await("the notice") { session.state.notice?.text == R.string.silenced }
        session.stop()
        await("the end") { session.state.phase == Phase.READY }
        assertEquals("nobody waits for it any more", R.string.was_silenced, session.state.notice?.text)
    }

    @Test
    fun `memory that passes the budget ends the stream with its text, and what is lost is told`() {
        val fake = FakeMicrophone(readRecordings(app.assets).first().samples)
        var reads = 0
        var hog: ByteBuffer? = null
        session.setBudget(Budget(memoryMb = residentMb() + 400))
        listen {
            object : Microphone by fake {
                override fun read(block: ShortArray): Int {
                    if (++reads == 80) { // 4 s of audio; the rest comes at once
                        while (session.state.text.length < 5) Thread.sleep(5)
                        hog = ByteBuffer.allocateDirect(900_000_000) // zeros, written
                    }
                    return fake.read(block)
                }
            }
        }
        await("the end") { session.state.phase == Phase.READY }
        assertEquals(0, hog!!.get(0).toInt())
        assertEquals(R.string.recognition_failed, session.state.notice?.text)
        assertTrue("MB of memory with a budget of" in session.state.notice!!.text(app))
        assertTrue(session.state.text, session.state.text.length >= 5)
        assertTrue(session.state.decisions.any { it is Overrun && it.budget == "memory" })
        assertTrue("${session.state.costs}", session.state.costs!!.lostS > 0)
        assertEquals("it is on the disk", session.state.segments, KeptText(File(app.noBackupFilesDir, "text.txt")).read())
    }

    @Test
    fun `memory is given back while it listens and while it does not`() {
        session.releaseMemory(isShort = true)
        await("idle") { session.state.notice?.text == R.string.memory_released }
        listen { FakeMicrophone(ShortArray(0)) }
        await("listening") { session.state.phase == Phase.LISTENING }
        session.releaseMemory(isShort = true)
        await("listening still") { session.state.notice?.text == R.string.memory_released }
        assertEquals(Phase.LISTENING, session.state.phase)
    }

    @Test
    fun `a budget that can't be held is refused with what could be`() {
        session.setBudget(Budget(memoryMb = 1.0))
        listen { FakeMicrophone(ShortArray(0)) }
        await("the refusal") { session.state.phase == Phase.READY }
        assertEquals(R.string.budget_refused, session.state.notice?.text)
        assertTrue("ask for" in session.state.notice!!.text(app))
    }

    @Test
    fun `a model that the user brings is checked, kept, and used`() {
        bring("mine.zip", builtInZip())
        assertNull(session.state.notice)
        assertEquals(listOf("mine.zip"), app.models.brought)
        assertEquals("mine.zip", app.settings.model)
    }

    @Test
    fun `an app that fails to give its file is no crash`() {
        for ((failure, complaint) in listOf(
            SecurityException("taken back") to "taken back",
            IllegalStateException("the provider fell over") to "the provider fell over",
            FileNotFoundException("gone") to "gone",
        )) {
            val document = Uri.parse("content://documents/$complaint.zip")
            shadowOf(app.contentResolver).registerInputStreamSupplier(document) {
                object : InputStream() {
                    override fun read(): Int = throw failure
                }
            }
            session.bring(document)
            await("the end of loading") { session.state.phase != Phase.LOADING }
            assertEquals(Notice(R.string.bad_file, complaint), session.state.notice)
            assertEquals(Phase.READY, session.state.phase)
        }
    }

    @Test
    fun `a bad bundle is refused by name, and the model before it stays`() {
        val changed = builtInZip { name, content ->
            if (name == "tokens.txt") content.also { it[0] = (it[0] + 1).toByte() } else content
        }
        val miscomputing = builtInZip { name, content ->
            if (name != MANIFEST_NAME) return@builtInZip content
            val manifest = JSONObject(String(content))
            manifest.getJSONObject("golden").getJSONObject("tolerance").getJSONObject("int8").put("encoder_out", 1e-30)
            manifest.toString().toByteArray()
        }
        for ((content, complaint) in listOf(
            miscomputing to "bad.zip: the self-test failed",
            changed to "bad.zip/tokens.txt: its content was changed",
            "no zip".toByteArray() to "bad.zip: neither the directory nor the whole zip",
        )) {
            bring("bad.zip", content)
            assertEquals(R.string.bad_model, session.state.notice?.text)
            assertTrue(session.state.notice!!.text(app), "This model can't be used. $complaint" in session.state.notice!!.text(app))
            assertEquals(Phase.READY, session.state.phase)
            assertNull(app.settings.model)
            assertEquals(emptyList<String>(), app.models.brought)
        }
    }
}
