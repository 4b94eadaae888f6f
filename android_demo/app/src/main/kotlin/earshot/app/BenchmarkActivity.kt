package earshot.app

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.view.Gravity
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TableLayout
import android.widget.TableRow
import android.widget.TextView
import earshot.general
import org.json.JSONObject

private const val SAVE_RESULT = 1
private const val EXTRA_MINUTES = "minutes"
private const val SUSTAINED_MIN = 5
private const val LONG_MIN = 15

/**
 * Measures the model on this phone. From a computer:
 *
 *     adb shell am start -n earshot.app/.BenchmarkActivity --ei minutes 15    # 0: the short one
 */
class BenchmarkActivity : Activity() {
    private val app get() = application as EarshotApplication
    private lateinit var run: BenchmarkRun

    override fun onCreate(kept: Bundle?) {
        super.onCreate(kept)
        setContentView(R.layout.activity_benchmark)
        val retained = lastNonConfigurationInstance as BenchmarkRun?
        run = retained ?: BenchmarkRun(app)
        run.onChange = { show() }
        find<View>(R.id.back).setOnClickListener { finish() }
        find<Button>(R.id.run_sustained).text = getString(R.string.run_sustained, SUSTAINED_MIN)
        find<Button>(R.id.run_long).text = getString(R.string.run_sustained, LONG_MIN)
        for ((id, minutes) in listOf(R.id.run_short to 0, R.id.run_sustained to SUSTAINED_MIN, R.id.run_long to LONG_MIN)) {
            find<View>(id).setOnClickListener { if (run.isRunning) run.stop() else start(minutes) }
        }
        find<View>(R.id.share).setOnClickListener {
            shareText(run.result.toString(), R.string.share_result)?.let { run.tell(it) }
        }
        find<View>(R.id.save).setOnClickListener {
            createDocument("application/json", checkNotNull(run.file).name, SAVE_RESULT)?.let { run.tell(it) }
        }
        show()
        if (retained == null && kept == null) startIfAsked(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        startIfAsked(intent)
    }

    override fun onRetainNonConfigurationInstance(): Any = run

    override fun onStop() {
        super.onStop()
        if (!isChangingConfigurations) run.stop(Notice(R.string.benchmark_background, kind = Notice.Kind.WARNING))
    }

    override fun onDestroy() {
        super.onDestroy()
        run.onChange = {}
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val document = data?.data
        if (request != SAVE_RESULT || result != RESULT_OK || document == null) return
        run.result?.let { run.tell(writeDocument(document, it.toString(2) + "\n")) }
    }

    private fun startIfAsked(intent: Intent) {
        val minutes = intent.getIntExtra(EXTRA_MINUTES, -1)
        if (minutes >= 0) start(minutes)
    }

    private fun start(minutes: Int) {
        run.start(minutes)
        show()
    }

    private fun show() = show(run.isRunning, run.progress, run.result, run.file?.path, run.notice)

    /** Put a benchmark's state on the screen. */
    internal fun show(isRunning: Boolean, progress: Progress?, result: JSONObject?, file: String?, notice: Notice?) {
        val isShort = progress !is Progress.Second && progress !is Progress.Idle
        find<Button>(R.id.run_short).text = getString(if (isRunning) R.string.benchmark_stop else R.string.run_short)
        for (id in listOf(R.id.run_sustained, R.id.run_long)) setEnabled(id, !isRunning)
        for (id in listOf(R.id.share, R.id.save)) setEnabled(id, result != null && !isRunning)
        find<TextView>(R.id.progress).run {
            text = notice?.text(context) ?: if (isRunning) describe(progress) else {
                file?.let { getString(R.string.benchmark_done, it) } ?: getString(R.string.benchmark_ready)
            }
            setTextColor(getColor(notice?.kind?.ink ?: R.color.ink))
        }
        find<ProgressBar>(R.id.bar).run {
            visibility = if (isRunning) View.VISIBLE else View.INVISIBLE
            isIndeterminate = isShort
            if (progress is Progress.Second) setProgress(1000 * progress.number / progress.of, false)
        }
        showRows(result)
        if (isRunning) {
            window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        } else {
            window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        }
    }

    private fun describe(progress: Progress?): String = when (progress) {
        null, Progress.Loading -> getString(R.string.benchmark_loading)
        Progress.WarmUp -> getString(R.string.benchmark_warm_up)
        is Progress.Pass -> getString(R.string.benchmark_pass, progress.number, progress.of)
        Progress.Idle -> getString(R.string.benchmark_idle)
        is Progress.Second -> getString(
            R.string.benchmark_second, progress.number, progress.of,
            progress.rtf?.let { general(it, 3) } ?: getString(R.string.no_value),
            resources.getStringArray(R.array.thermal).getOrNull(progress.thermalStatus).orEmpty(),
        )
    }

    private fun showRows(result: JSONObject?) {
        val table = find<TableLayout>(R.id.rows)
        table.removeAllViews()
        val rows = result?.getJSONObject("rows") ?: return
        for (name in rows.keys()) {
            val row = rows.getJSONObject(name)
            val line = layoutInflater.inflate(R.layout.benchmark_row, table, false) as TableRow
            (line.getChildAt(0) as TextView).text = name.replace('_', ' ')
            (line.getChildAt(1) as TextView).run {
                val isMeasured = !row.isNull("value")
                text = if (isMeasured) "${general(row.getDouble("value"), 4)} ${row.getString("unit")}".trim() else row.getString("reason")
                setTextColor(getColor(if (isMeasured) R.color.ink else R.color.ink_soft))
                gravity = Gravity.END
            }
            table.addView(line)
        }
    }

    private fun setEnabled(id: Int, enabled: Boolean) = find<View>(id).run {
        isEnabled = enabled
        alpha = if (enabled) 1f else 0.4f
    }

    private fun <V : View> find(id: Int): V = findViewById(id)
}
