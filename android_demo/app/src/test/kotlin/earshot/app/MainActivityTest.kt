package earshot.app

import android.Manifest.permission.RECORD_AUDIO
import android.app.AlertDialog
import android.content.ComponentCallbacks2
import android.content.Intent
import android.content.pm.PackageManager.PERMISSION_DENIED
import android.content.res.Configuration
import android.media.AudioFormat
import android.media.AudioManager
import android.media.AudioRecord
import android.media.AudioRecordingConfiguration
import android.media.MediaRecorder
import android.os.Bundle
import android.os.Parcel
import android.os.PowerManager
import android.text.Spanned
import android.text.style.StyleSpan
import android.view.View
import android.widget.EditText
import android.widget.TextView
import earshot.Budget
import java.util.concurrent.Executor
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.shadows.ShadowAudioRecord
import org.robolectric.shadows.ShadowDialog

/** The main screen through what a phone does to it. */
@RunWith(RobolectricTestRunner::class)
class MainActivityTest {
    private lateinit var controller: ActivityController<MainActivity>
    private val activity get() = controller.get()
    private val session get() = activity.onRetainNonConfigurationInstance() as Session

    @Before
    fun open() {
        app.settings.budget = Budget(rtf = 5.0)
        controller = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the model") { session.state.phase == Phase.READY }
    }

    @After
    fun close() {
        session.close()
        ShadowAudioRecord.clearSource()
    }

    private fun shown(id: Int) = activity.findViewById<TextView>(id).text.toString()

    private fun press(id: Int) = assertTrue(activity.findViewById<View>(id).performClick())

    private fun listen() {
        app.microphones = Microphones { FakeMicrophone(ShortArray(0)) }
        shadowOf(app).grantPermissions(RECORD_AUDIO)
        press(R.id.record)
        await("listening") { session.state.phase == Phase.LISTENING }
    }

    @Test
    fun `a denied permission is told, and the way to the settings is a tap`() {
        shadowOf(app).denyPermissions(RECORD_AUDIO)
        press(R.id.record)
        assertEquals(listOf(RECORD_AUDIO), shadowOf(activity).lastRequestedPermission.requestedPermissions.toList())
        activity.onRequestPermissionsResult(1, arrayOf(RECORD_AUDIO), intArrayOf(PERMISSION_DENIED))
        assertEquals(app.getString(R.string.permission_denied), shown(R.id.notice))
        assertEquals(Phase.READY, session.state.phase)
        press(R.id.notice)
        assertEquals("package:earshot.app", shadowOf(activity).nextStartedActivity.dataString)
    }

    @Test
    fun `a rotation keeps listening`() {
        listen()
        val (before, listening) = activity to session
        val turned = Configuration(activity.resources.configuration)
        turned.orientation = Configuration.ORIENTATION_LANDSCAPE
        controller.configurationChange(turned)
        assertNotSame(before, activity)
        assertSame(listening, session)
        assertEquals(Phase.LISTENING, session.state.phase)
        assertTrue(activity.findViewById<View>(R.id.record).isActivated)
        session.stop(Notice(R.string.saved))
        assertEquals("the new screen shows it", app.getString(R.string.saved), shown(R.id.notice))
    }

    @Test
    fun `an app that leaves the screen stops, keeps the text, and says so`() {
        listen()
        controller.pause().stop()
        await("the end") { session.state.phase == Phase.READY }
        assertEquals(app.getString(R.string.stopped_in_background), shown(R.id.notice))
    }

    /** The screen of the next process. */
    private fun reopen() {
        session.close()
        controller = Robolectric.buildActivity(MainActivity::class.java).setup()
    }

    @Test
    fun `text outlives the process, until it is cleared`() {
        app.text.keep(listOf("one", "two"))
        reopen()
        assertEquals("one\ntwo", shown(R.id.text))
        press(R.id.record) // while the model loads: no harm
        await("the model") { session.state.phase == Phase.READY }
        press(R.id.clear)
        reopen()
        assertEquals("", shown(R.id.text))
    }

    @Test
    fun `a day's text is kept, shown and changed at its end only`() {
        val day = List(5_000) { "this is segment number $it of a very long day" }
        app.text.keep(day)
        reopen()
        val kept = Bundle()
        controller.pause().stop().saveInstanceState(kept)
        val parcel = Parcel.obtain().apply { writeBundle(kept) }
        assertTrue("Android takes half a megabyte: ${parcel.dataSize()}", parcel.dataSize() < 20_000)
        parcel.recycle()
        val text = activity.findViewById<TextView>(R.id.text)
        val first = text.editableText
        first.setSpan(this, 0, 100, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE) // such as what the user has selected
        for ((stable, unstable) in listOf("one" to "", "one" to " two", "one two" to " three", "ten" to "", "" to "")) {
            val state = session.state.copy(stable = stable, unstable = unstable)
            activity.show(state)
            assertEquals(state.text, text.text.toString())
            val italic = text.editableText.getSpans(0, text.length(), StyleSpan::class.java).map {
                text.text.substring(text.editableText.getSpanStart(it), text.editableText.getSpanEnd(it))
            }
            assertEquals(listOf(unstable).filter { it.isNotEmpty() }, italic)
        }
        assertSame(first, text.editableText)
        assertEquals(100, first.getSpanEnd(this))
    }

    @Test
    fun `low memory is answered`() {
        activity.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        await("the notice") { shown(R.id.notice) == app.getString(R.string.memory_released) }
    }

    /** Android says that to every app, so it is no news of the phone's memory. */
    @Test
    fun `leaving the screen gives memory back and tells nothing`() {
        val told = ArrayList<Notice>()
        session.onChange = { session.state.notice?.let { told += it } }
        controller.pause().stop()
        activity.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN)
        activity.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        session.open(null) // the worker comes to it behind that
        await("the model") { session.state.phase == Phase.READY }
        assertEquals(emptyList<Notice>(), told)
    }

    @Test
    fun `a budget that is no number the app can keep is refused where it is typed`() {
        val before = app.settings.budget
        press(R.id.set_budget)
        val dialog = ShadowDialog.getLatestDialog() as AlertDialog
        val field = dialog.findViewById<EditText>(R.id.budget_rtf)
        for (text in listOf("0", ".", "9".repeat(50), "0." + "0".repeat(60) + "1")) {
            field.setText(text)
            dialog.getButton(AlertDialog.BUTTON_POSITIVE).performClick()
            assertEquals(text, app.getString(R.string.not_a_limit), field.error)
            assertEquals(before, app.settings.budget)
        }
        field.setText("0.3")
        dialog.getButton(AlertDialog.BUTTON_POSITIVE).performClick()
        assertEquals(before.copy(rtf = 0.3), app.settings.budget)
    }

    @Test
    fun `heat is shown`() {
        val power = app.getSystemService(PowerManager::class.java)
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
        await("the word for it") { shown(R.id.thermal) == app.resources.getStringArray(R.array.thermal)[3] }
    }

    @Test
    fun `text is shared whole`() {
        app.text.keep(listOf("one", "two"))
        reopen()
        await("the model") { session.state.phase == Phase.READY }
        press(R.id.share)
        val chooser = shadowOf(activity).nextStartedActivity
        val sent = chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)!!
        assertEquals("one\ntwo", sent.getStringExtra(Intent.EXTRA_TEXT))
        press(R.id.clear)
        assertFalse(activity.findViewById<View>(R.id.share).isEnabled)
    }

    @Test
    @Config(shadows = [RecordingMonitor::class])
    fun `the system's microphone is read, and its loss is no crash`() {
        val recording = readRecordings(app.assets).first()
        var from = 0
        val source = object : ShadowAudioRecord.AudioRecordSource {
            override fun readInShortArray(data: ShortArray, offset: Int, size: Int, isBlocking: Boolean): Int {
                val count = minOf(size, recording.samples.size - from)
                recording.samples.copyInto(data, offset, from, from + count)
                from += count
                return if (count > 0) count else AudioRecord.ERROR_DEAD_OBJECT
            }
        }
        ShadowAudioRecord.setSourceProvider { source }
        shadowOf(app).grantPermissions(RECORD_AUDIO)
        press(R.id.record)
        await("the loss") { session.state.phase == Phase.READY }
        assertEquals(app.getString(R.string.microphone_lost), shown(R.id.notice))
        assertEquals(recording.samples.size, from)
        assertUnderstood(recording, shown(R.id.text))
    }

    @Test
    @Config(shadows = [RecordingMonitor::class])
    fun `a call that takes the system's microphone is told`() {
        val source = object : ShadowAudioRecord.AudioRecordSource {
            override fun readInShortArray(data: ShortArray, offset: Int, size: Int, isBlocking: Boolean): Int {
                Thread.sleep(50)
                return size
            }
        }
        ShadowAudioRecord.setSourceProvider { source }
        shadowOf(app).grantPermissions(RECORD_AUDIO)
        press(R.id.record)
        await("listening") { session.state.phase == Phase.LISTENING }
        RecordingMonitor.tell(isSilenced = true)
        await("the notice") { shown(R.id.notice) == app.getString(R.string.silenced) }
        session.stop()
        await("the end") { session.state.phase == Phase.READY }
    }

    @Test
    @Config(shadows = [NoRoute::class])
    fun `an audio route that can't be opened is told`() {
        shadowOf(app).grantPermissions(RECORD_AUDIO)
        press(R.id.record)
        await("the end") { session.state.phase == Phase.READY && session.state.notice != null }
        assertEquals(app.getString(R.string.microphone_unavailable), shown(R.id.notice))
        assertTrue("it may be tried again", activity.findViewById<View>(R.id.record).isEnabled)
    }
}

/** An AudioRecord whose initialisation fails. */
@Implements(AudioRecord::class)
class NoRoute {
    @Implementation
    protected fun getState(): Int = AudioRecord.STATE_UNINITIALIZED

    companion object {
        @JvmStatic
        @Implementation
        @Suppress("FunctionName")
        internal fun native_get_min_buff_size(rate: Int, channels: Int, format: Int): Int = rate / 50 * channels * format
    }
}

/** What tells an app of other apps' recordings; the one of the framework's jar lacks a class. */
@Implements(className = "android.media.AudioRecordingMonitorImpl")
class RecordingMonitor {
    @Implementation
    protected fun registerAudioRecordingCallback(executor: Executor, callback: AudioManager.AudioRecordingCallback) {
        watching = callback
    }

    @Implementation
    protected fun unregisterAudioRecordingCallback(callback: AudioManager.AudioRecordingCallback) {
        if (watching == callback) watching = null
    }

    companion object {
        @Volatile
        private var watching: AudioManager.AudioRecordingCallback? = null

        /** Say of the recording of session 0, which is Robolectric's, whether it is silenced. */
        fun tell(isSilenced: Boolean) {
            val format = AudioFormat.Builder().setSampleRate(16_000).build()
            val configuration = AudioRecordingConfiguration(
                0, 0, MediaRecorder.AudioSource.VOICE_RECOGNITION, format, format, 0, app.packageName, 0, isSilenced,
                MediaRecorder.AudioSource.VOICE_RECOGNITION, emptyArray(), emptyArray(),
            )
            watching!!.onRecordingConfigChanged(listOf(configuration))
        }
    }
}
