package earshot.app

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Rect
import android.os.PowerManager
import android.view.View
import android.view.ViewGroup
import android.widget.ImageButton
import earshot.Budget
import earshot.CHUNKS_MS
import earshot.Moved
import earshot.OperatingPoint
import java.io.File
import kotlin.math.abs
import kotlin.math.sin
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

private const val PHONE = "w392dp-h760dp-mdpi"
private const val GAP = 24 // pixels between the screens of the picture

/**
 * Draws the screens with scripted states, since this machine is no phone: target/screens, and
 * target/android.png for the README.
 */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(qualifiers = PHONE)
class ScreensTest {
    private val points = CHUNKS_MS.drop(1).map(::OperatingPoint)
    private val listening = ListenState(
        phase = Phase.LISTENING,
        model = "en" to "int8",
        segments = listOf("the old house stood alone at the end of the road and nobody had lived in it for years"),
        stable = "she opened the window and looked out at the rain but",
        unstable = " there was no o",
        budget = Budget(rtf = 0.2, memoryMb = 400.0),
        costs = Costs(0.064, 187.0, points[0], points, 0.0, 0.0),
    )
    private val moved = listening.copy(
        segments = listOf("who is your friend the chief asked"),
        stable = "the caravan began to travel day and",
        unstable = " night",
        budget = Budget(rtf = 0.05, memoryMb = 250.0),
        costs = Costs(0.041, 214.0, points[2], points, 0.6, 0.0),
        thermalStatus = PowerManager.THERMAL_STATUS_SEVERE,
        decisions = listOf(
            Moved(48.6, points[0], points[1], "rtf 0.0576 of 0.05"),
            Moved(61.1, points[1], points[2], "rtf 0.0512 of 0.05"),
        ),
    )
    private val refused = ListenState(
        phase = Phase.READY,
        model = "en" to "int8",
        budget = Budget(rtf = 0.2, memoryMb = 400.0),
        notice = Notice(
            R.string.bad_model,
            "meeting.zip/encoder.int8.onnx: its content was changed (sha256 41c0ffee9e21..., expected " +
                "427443659594...); copy the bundle again, or export the model again",
        ),
    )

    private fun draw(activity: Activity, name: String): Bitmap {
        val view = activity.window.decorView
        val metrics = activity.resources.displayMetrics
        view.measure(
            View.MeasureSpec.makeMeasureSpec(metrics.widthPixels, View.MeasureSpec.EXACTLY),
            View.MeasureSpec.makeMeasureSpec(metrics.heightPixels, View.MeasureSpec.EXACTLY),
        )
        view.layout(0, 0, metrics.widthPixels, metrics.heightPixels)
        val bitmap = Bitmap.createBitmap(metrics.widthPixels, metrics.heightPixels, Bitmap.Config.ARGB_8888)
        val canvas = Canvas(bitmap)
        canvas.drawColor(activity.getColor(R.color.background))
        view.draw(canvas)
        write(bitmap, File(File(System.getProperty("earshot.built"), "screens").apply { mkdirs() }, "$name.png"))
        return bitmap
    }

    private fun write(bitmap: Bitmap, file: File) =
        file.outputStream().use { assertTrue(bitmap.compress(Bitmap.CompressFormat.PNG, 100, it)) }

    private fun main(state: ListenState, name: String, night: Boolean): Bitmap {
        RuntimeEnvironment.setQualifiers(if (night) "+night" else "+notnight")
        Robolectric.buildActivity(MainActivity::class.java).setup().use { controller ->
            val activity = controller.get()
            val session = activity.onRetainNonConfigurationInstance() as Session
            await("the model") { session.state.phase == Phase.READY }
            activity.show(state)
            if (state.phase == Phase.LISTENING) {
                val level = activity.findViewById<LevelView>(R.id.level)
                for (i in 0 until 64) level.add((0.004 + 0.12 * abs(sin(i * 0.9) * sin(i * 0.23))).toFloat())
            }
            return draw(activity, name).also { checkControls(activity) }
        }
    }

    private fun benchmark(name: String, night: Boolean): Bitmap {
        RuntimeEnvironment.setQualifiers(if (night) "+night" else "+notnight")
        Robolectric.buildActivity(BenchmarkActivity::class.java).setup().use { controller ->
            val rows = linkedMapOf(
                "rtf" to figure(listOf(0.0611, 0.0624, 0.0640), ""),
                "chunk_ms_p50" to figure(19.4, "ms"),
                "chunk_ms_p95" to figure(22.8, "ms"),
                "chunk_ms_p99" to figure(25.1, "ms"),
                "deadline_miss_percent" to figure(0.0, "%"),
                "load_ms" to figure(312.0, "ms"),
                "rss_peak_mb" to figure(203.0, "MB"),
                "rtf_first_min" to figure(0.0618, ""),
                "rtf_last_min" to figure(0.0705, ""),
                "temp_start_c" to figure(29.5, "C"),
                "temp_end_c" to figure(35.2, "C"),
                "throttled_at_s" to notAvailable("s", "it was not throttled"),
                "energy_mj_per_audio_s" to notAvailable("", "the phone was plugged in"),
            )
            val result = JSONObject().put("rows", rowsToJson(rows))
            controller.get().show(true, Progress.Second(171, 300, 0.0702, 1), result, null, null)
            return draw(controller.get(), name)
        }
    }

    /** Nothing that is to be pressed lies outside of the screen or is too small for a finger. */
    private fun checkControls(activity: Activity) {
        val metrics = activity.resources.displayMetrics
        for (id in listOf(R.id.record, R.id.share, R.id.save, R.id.clear, R.id.set_budget, R.id.benchmark)) {
            val button = activity.findViewById<ImageButton>(id)
            val place = Rect().also { button.getDrawingRect(it) }
            (activity.window.decorView as ViewGroup).offsetDescendantRectToMyCoords(button, place)
            val name = activity.resources.getResourceEntryName(id)
            assertTrue("$name at $place", place.left >= 0 && place.right <= metrics.widthPixels)
            assertTrue("$name at $place", place.bottom <= metrics.heightPixels)
            assertTrue("$name of $place", minOf(place.width(), place.height()) >= 44 * metrics.density - 1)
        }
    }

    @Test
    fun `the screens by day and by night`() {
        val screens = listOf(
            main(listening, "listening-light", night = false),
            main(moved, "moved-dark", night = true),
            benchmark("benchmark-light", night = false),
            main(refused, "error-dark", night = true),
        )
        assertEquals(Color.parseColor("#F5F4EF"), screens[0].getPixel(2, screens[0].height / 2))
        assertEquals(Color.parseColor("#101214"), screens[1].getPixel(2, screens[1].height / 2))
        val picture = Bitmap.createBitmap(
            screens.sumOf { it.width + GAP } + GAP, screens[0].height + 2 * GAP, Bitmap.Config.ARGB_8888,
        )
        val canvas = Canvas(picture)
        canvas.drawColor(Color.parseColor("#8E9499"))
        for ((number, screen) in screens.withIndex()) {
            canvas.drawBitmap(screen, GAP + number * (screen.width + GAP).toFloat(), GAP.toFloat(), null)
        }
        write(picture, File(System.getProperty("earshot.built"), "android.png"))
    }

    @Test
    fun `the same the other way round`() {
        main(moved, "moved-light", night = false)
        main(listening, "listening-dark", night = true)
        benchmark("benchmark-dark", night = true)
        main(refused, "error-light", night = false)
    }

    @Test
    @Config(qualifiers = "w760dp-h392dp-land-mdpi")
    fun `a turned phone`() {
        main(listening, "turned-light", night = false)
    }
}
