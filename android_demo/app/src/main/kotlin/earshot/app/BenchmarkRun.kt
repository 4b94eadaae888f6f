package earshot.app

import android.os.Handler
import android.os.Looper
import earshot.AsrError
import java.io.File
import java.io.IOException
import kotlin.concurrent.thread
import org.json.JSONObject

/** Where the results lie in the app's files, for `adb exec-out run-as earshot.app cat files/bench.json`. */
const val SHORT_RESULT = "bench.json"
const val SUSTAINED_RESULT = "sustained.json"

/** A benchmark in a thread of its own. It outlives the activity that a rotation destroys. */
class BenchmarkRun(private val app: EarshotApplication) {
    var progress: Progress? = null
        private set
    var result: JSONObject? = null
        private set
    var file: File? = null // with the result
        private set
    var notice: Notice? = null
        private set
    var isRunning = false
        private set

    /** Called in the main thread when any of these changed. */
    var onChange: () -> Unit = {}

    @Volatile
    private var isStopped = false
    private val main = Handler(Looper.getMainLooper())

    /** Measure for so many minutes, 0 being the short run. */
    fun start(minutes: Int) {
        if (isRunning) return
        isRunning = true
        isStopped = false
        result = null
        file = null
        notice = null
        thread(name = "benchmark") {
            try {
                val benchmark = Benchmark(
                    app.models.path(app.settings.model),
                    readRecordings(app.assets),
                    app.device,
                    isStopped = { isStopped },
                    watch = { reached -> post { progress = reached } },
                )
                val found = if (minutes == 0) benchmark.runShort() else benchmark.runSustained(60 * minutes)
                val written = File(app.filesDir, if (minutes == 0) SHORT_RESULT else SUSTAINED_RESULT)
                written.writeText(found.toString(2) + "\n")
                post {
                    result = found
                    file = written
                }
            } catch (_: BenchmarkStopped) {
                post { if (notice == null) tellStopped() }
            } catch (error: AsrError) {
                post { notice = Notice(R.string.benchmark_failed, error.message.orEmpty()) }
            } catch (error: IOException) {
                post { notice = Notice(R.string.benchmark_failed, error.message.orEmpty()) }
            } finally {
                post { isRunning = false }
            }
        }
    }

    /** End early; [why] is shown. */
    fun stop(why: Notice? = null) {
        if (!isRunning) return
        isStopped = true
        if (why == null) tellStopped() else notice = why
        onChange()
    }

    /** Show something. */
    fun tell(notice: Notice?) {
        this.notice = notice
        onChange()
    }

    private fun tellStopped() {
        notice = Notice(R.string.benchmark_stopped, kind = Notice.Kind.WARNING)
    }

    private fun post(change: () -> Unit) {
        main.post {
            change()
            onChange()
        }
    }
}
