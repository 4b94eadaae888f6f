package earshot.app

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.ComponentCallbacks2
import android.content.Intent
import android.content.pm.PackageManager
import android.content.res.ColorStateList
import android.graphics.Typeface
import android.net.Uri
import android.os.Bundle
import android.provider.Settings.ACTION_APPLICATION_DETAILS_SETTINGS
import android.text.Editable
import android.text.Spannable
import android.text.style.ForegroundColorSpan
import android.text.style.StyleSpan
import android.view.View
import android.view.WindowManager
import android.widget.EditText
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import earshot.Budget
import earshot.CHUNKS_MS
import earshot.OperatingPoint
import earshot.describe
import earshot.general

private const val ASK_MICROPHONE = 1
private const val CHOOSE_MODEL = 2
private const val SAVE_TEXT = 3

/** Listens, and shows what it hears and what that costs. */
class MainActivity : Activity() {
    private val app get() = application as EarshotApplication
    private lateinit var session: Session
    private var shownPoints: List<OperatingPoint> = emptyList()
    private val unstableSpans by lazy { listOf(ForegroundColorSpan(getColor(R.color.unstable)), StyleSpan(Typeface.ITALIC)) }

    override fun onCreate(kept: Bundle?) {
        super.onCreate(kept)
        setContentView(R.layout.activity_main)
        session = lastNonConfigurationInstance as Session? ?: Session(app)
        find<TextView>(R.id.text).setText(null, TextView.BufferType.EDITABLE) // so that it can be changed in part
        session.onChange = { show(session.state) }
        session.onLevel = { find<LevelView>(R.id.level).add(it) }
        find<View>(R.id.record).setOnClickListener { toggle() }
        find<View>(R.id.model).setOnClickListener { chooseModel() }
        find<View>(R.id.set_budget).setOnClickListener { chooseBudget() }
        find<View>(R.id.benchmark).setOnClickListener { startActivity(Intent(this, BenchmarkActivity::class.java)) }
        find<View>(R.id.clear).setOnClickListener { session.clear() }
        find<View>(R.id.share).setOnClickListener { tell(shareText(session.state.text, R.string.share)) }
        find<View>(R.id.save).setOnClickListener {
            tell(createDocument("text/plain", getString(R.string.text_file), SAVE_TEXT))
        }
        find<View>(R.id.notice).setOnClickListener { follow(session.state.notice) }
        show(session.state)
    }

    /** A rotation keeps listening. */
    override fun onRetainNonConfigurationInstance(): Any = session

    /** An app that isn't on the screen gets silence from the microphone, so it says that it stops. */
    override fun onStop() {
        super.onStop()
        if (!isChangingConfigurations) {
            session.stop(Notice(R.string.stopped_in_background, kind = Notice.Kind.WARNING))
        }
    }

    override fun onDestroy() {
        super.onDestroy()
        session.onChange = {}
        session.onLevel = {}
        if (!isChangingConfigurations) session.close()
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level < ComponentCallbacks2.TRIM_MEMORY_RUNNING_LOW) return
        // The levels from this one on come to every app that has left the screen, however much there is.
        session.releaseMemory(isShort = level < ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN)
    }

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, results: IntArray) {
        if (request != ASK_MICROPHONE || results.isEmpty()) return // empty: the dialog was interrupted
        if (results[0] == PackageManager.PERMISSION_GRANTED) {
            session.start()
        } else {
            session.tell(Notice(R.string.permission_denied))
        }
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val document = data?.data
        if (result != RESULT_OK || document == null) return
        if (request == CHOOSE_MODEL) session.bring(document)
        if (request == SAVE_TEXT) session.tell(writeDocument(document, session.state.text + "\n"))
    }

    private fun toggle() {
        when {
            session.state.phase != Phase.READY -> session.stop()
            checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED -> session.start()
            else -> requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), ASK_MICROPHONE)
        }
    }

    private fun chooseModel() {
        val brought = app.models.brought
        val names = listOf(getString(R.string.built_in)) + brought + getString(R.string.choose_file)
        val chosen = brought.indexOf(app.settings.model) + 1
        AlertDialog.Builder(this)
            .setTitle(R.string.choose_model)
            .setSingleChoiceItems(names.toTypedArray(), chosen) { dialog, which ->
                dialog.dismiss()
                when (which) {
                    0 -> session.open(null)
                    names.lastIndex -> tell(chooseZip(CHOOSE_MODEL))
                    else -> session.open(names[which])
                }
            }
            .setNegativeButton(R.string.cancel, null)
            .show()
    }

    private fun chooseBudget() {
        val form = layoutInflater.inflate(R.layout.dialog_budget, null)
        val fields = listOf(R.id.budget_rtf, R.id.budget_memory, R.id.budget_latency).map { form.findViewById<EditText>(it) }
        val budget = app.settings.budget
        for ((field, limit) in fields.zip(listOf(budget.rtf, budget.memoryMb, budget.latencyMs))) {
            field.setText(limit?.let { general(it) })
        }
        val dialog = AlertDialog.Builder(this)
            .setTitle(R.string.set_budget)
            .setView(form)
            .setPositiveButton(R.string.ok, null)
            .setNegativeButton(R.string.cancel, null)
            .show()
        dialog.getButton(AlertDialog.BUTTON_POSITIVE).setOnClickListener { // so it stays open for a mistake
            val wrong = fields.filter { it.text.isNotBlank() && limitOf(it) == null }
            wrong.forEach { it.error = getString(R.string.not_a_limit) }
            if (wrong.isEmpty()) {
                val (rtf, memoryMb, latencyMs) = fields.map(::limitOf)
                session.setBudget(Budget(rtf, memoryMb, latencyMs))
                dialog.dismiss()
            }
        }
    }

    /** As a float, for so it is kept. */
    private fun limitOf(field: EditText): Double? =
        field.text.toString().toFloatOrNull()?.takeIf { it > 0 && it.isFinite() }?.toString()?.toDouble()

    private fun follow(notice: Notice?) {
        if (notice?.text != R.string.permission_denied) return
        val details = Intent(ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null))
        startActivity(details)
    }

    private fun tell(notice: Notice?) {
        if (notice != null) session.tell(notice)
    }

    /** Put a state on the screen. */
    internal fun show(state: ListenState) {
        showText(state)
        showNotice(state.notice)
        showCosts(state)
        showControls(state)
        find<TextView>(R.id.model).text = state.model?.let { (name, precision) -> getString(R.string.model, name, precision) }
            ?: getString(if (state.phase == Phase.LOADING) R.string.loading else R.string.no_model)
    }

    private fun showText(state: ListenState) {
        val view = find<TextView>(R.id.text)
        view.setHint(
            when (state.phase) {
                Phase.LOADING -> R.string.loading
                Phase.OPENING -> R.string.opening
                Phase.LISTENING -> R.string.hint_listening
                Phase.FINISHING -> R.string.finishing
                else -> R.string.hint
            },
        )
        if (!view.editableText.become(state.text, state.unstable.length)) return
        if (state.phase == Phase.LISTENING) {
            find<ScrollView>(R.id.scroll).let { it.post { it.fullScroll(View.FOCUS_DOWN) } }
        }
    }

    /** Change only the tail that differs: after hours, the layout of the rest costs more than recognising. */
    private fun Editable.become(text: String, unstable: Int): Boolean {
        val same = commonPrefixWith(text).length
        val isChanged = same < maxOf(length, text.length)
        if (isChanged) replace(same, length, text, same, text.length)
        for (span in unstableSpans) {
            removeSpan(span)
            if (unstable > 0) setSpan(span, length - unstable, length, Spannable.SPAN_EXCLUSIVE_EXCLUSIVE)
        }
        return isChanged
    }

    private fun showNotice(notice: Notice?) {
        val view = find<TextView>(R.id.notice)
        view.visibility = if (notice == null) View.GONE else View.VISIBLE
        if (notice == null) return
        view.text = notice.text(this)
        view.setTextColor(getColor(notice.kind.ink))
        view.backgroundTintList = ColorStateList.valueOf(getColor(notice.kind.paper))
    }

    private fun showCosts(state: ListenState) {
        val costs = state.costs
        showGauge(R.id.rtf_value, R.id.rtf_limit, R.id.rtf_gauge, R.string.rtf_value, costs?.rtf, state.budget.rtf)
        showGauge(
            R.id.memory_value, R.id.memory_limit, R.id.memory_gauge, R.string.memory_value, costs?.memoryMb,
            state.budget.memoryMb,
        )
        showLadder(costs)
        find<TextView>(R.id.thermal).text = listOfNotNull(
            costs?.lostS?.takeIf { it >= 0.05 }?.let { getString(R.string.lost, it) },
            costs?.queuedS?.takeIf { it >= 0.5 }?.let { getString(R.string.waiting, it) },
            resources.getStringArray(R.array.thermal).getOrNull(state.thermalStatus),
        ).joinToString(" · ")
        find<TextView>(R.id.moves).text = if (state.decisions.isEmpty()) {
            getString(R.string.no_moves)
        } else {
            state.decisions.asReversed().joinToString("\n") { describe(it) }
        }
    }

    private fun showGauge(value: Int, limit: Int, gauge: Int, format: Int, found: Double?, most: Double?) {
        find<TextView>(value).text = if (found == null) getString(R.string.no_value) else getString(format, found)
        find<TextView>(limit).text = most?.let { getString(R.string.of_limit, general(it)) } ?: getString(R.string.no_limit)
        find<GaugeView>(gauge).show(found ?: 0.0, most)
    }

    private fun showLadder(costs: Costs?) {
        val ladder = find<LinearLayout>(R.id.ladder)
        val points = costs?.ladder ?: CHUNKS_MS.map(::OperatingPoint)
        if (points != shownPoints) {
            shownPoints = points
            ladder.removeAllViews()
            for (point in points) {
                layoutInflater.inflate(R.layout.rung, ladder)
                val rung = ladder.getChildAt(ladder.childCount - 1) as TextView
                rung.text = point.chunkMs.toString()
                rung.contentDescription = getString(R.string.point_value, point.chunkMs)
            }
        }
        for ((number, point) in points.withIndex()) ladder.getChildAt(number).isSelected = point == costs?.point
    }

    private fun showControls(state: ListenState) {
        val isListening = state.phase == Phase.LISTENING || state.phase == Phase.OPENING
        find<ImageButton>(R.id.record).run {
            isActivated = isListening
            isEnabled = isListening || state.phase == Phase.READY
            setImageResource(if (isListening) R.drawable.ic_stop else R.drawable.ic_microphone)
            contentDescription = getString(if (isListening) R.string.stop else R.string.start)
        }
        val isIdle = state.phase == Phase.READY || state.phase == Phase.NO_MODEL
        for (button in listOf(R.id.share, R.id.save, R.id.clear)) setEnabled(button, isIdle && state.text.isNotEmpty())
        setEnabled(R.id.model, isIdle)
        setEnabled(R.id.set_budget, isIdle)
        setEnabled(R.id.benchmark, isIdle)
        if (!isListening) find<LevelView>(R.id.level).clear()
        if (isListening) {
            window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        } else {
            window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        }
    }

    private fun setEnabled(id: Int, enabled: Boolean) = find<View>(id).run {
        isEnabled = enabled
        alpha = if (enabled) 1f else 0.4f
    }

    private fun <V : View> find(id: Int): V = findViewById(id)
}
