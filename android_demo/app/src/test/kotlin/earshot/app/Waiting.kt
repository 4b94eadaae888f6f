package earshot.app

import android.os.Looper
import earshot.wordErrors
import earshot.words
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf

private const val TIMEOUT_NS = 120_000_000_000L // a machine may be busy

/** The app of this test. */
val app: EarshotApplication get() = RuntimeEnvironment.getApplication() as EarshotApplication

/** Run what was posted to the main thread until [condition] holds. */
fun await(what: String, condition: () -> Boolean) {
    val started = System.nanoTime()
    while (true) {
        shadowOf(Looper.getMainLooper()).idle()
        if (condition()) return
        if (System.nanoTime() - started > TIMEOUT_NS) fail("waited in vain: $what")
        Thread.sleep(5)
    }
}

/** Whether most of what is said in a recording was understood: another model understands other words. */
fun assertUnderstood(recording: Recording, text: String) =
    assertTrue(text, 2 * wordErrors(recording.text, text.replace('\n', ' ')) < words(recording.text).size)
