package earshot.app

import android.net.Uri
import android.os.Debug
import android.os.Handler
import android.os.Looper
import android.os.Process
import earshot.AsrError
import earshot.Budget
import earshot.BudgetError
import earshot.BudgetExceeded
import earshot.BundleError
import earshot.Clock
import earshot.Event
import earshot.LiveStream
import earshot.Recognizer
import earshot.decoding.EndpointRules
import earshot.load
import earshot.residentMb
import java.io.IOException
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.RejectedExecutionException
import kotlin.concurrent.thread
import kotlin.math.sqrt

private const val BLOCK_S = 0.05 // that is read of the microphone at once
private const val REST_BLOCKS = 40 // as many as the system keeps
private const val SHOW_EVERY_NS = 250_000_000L // the costs, between events
private const val POLL_EVERY_NS = 2_000_000_000L // the thermal state

/**
 * Listens: a microphone, a thread that reads it, a bounded queue, and a thread that recognises.
 *
 * It outlives the activity that a rotation destroys. Its methods and [onChange] belong to the main thread;
 * the recogniser belongs to its own thread alone.
 */
class Session(private val app: EarshotApplication) : AutoCloseable {
    /** What is shown now. */
    var state = ListenState(budget = app.settings.budget)
        private set

    /** Called when [state] changed. */
    var onChange: () -> Unit = {}

    /** Called for every block with its level: root mean square, 1 being full scale. */
    var onLevel: (Float) -> Unit = {}

    private val main = Handler(Looper.getMainLooper())
    private val worker: ExecutorService = Executors.newSingleThreadExecutor { Thread(it, "recogniser") }
    private val heat = Heat(app) { status -> update { copy(thermalStatus = status) } }
    private var recognizer: Recognizer? = null // the worker's
    private var silencedAtNs: Long? = null

    @Volatile
    private var stopping = false

    @Volatile
    private var releaseIsDue = false

    @Volatile
    private var memoryIsShort = false // to be told behind that

    init {
        val text = keeping(ifFailed = emptyList()) { app.text.read() }
        update { copy(thermalStatus = heat.poll(), segments = text) }
        open(app.settings.model)
    }

    /** Load a model, null being the built-in one; what was loaded before stays where it can't be used. */
    fun open(model: String?) = load { model }

    /** Take a zip that the user chose, and load it. */
    fun bring(source: Uri) = load { app.models.bring(source) }

    /** Listen, until [stop]. The permission was granted. */
    fun start() {
        if (state.phase != Phase.READY) return
        stopping = false
        silencedAtNs = null
        update { copy(phase = Phase.OPENING, notice = null, decisions = emptyList(), costs = null) }
        work {
            try {
                listen()
            } finally {
                post { copy(phase = Phase.READY).close() }
            }
            releaseIfDue()
        }
    }

    /** Recognise what was heard, and end. [why] is shown. */
    fun stop(why: Notice? = null) {
        if (state.phase != Phase.LISTENING && state.phase != Phase.OPENING) return
        stopping = true
        noteSilenced(false) // as far as this stream hears
        update { copy(phase = Phase.FINISHING, notice = why ?: notice) }
    }

    /** Forget the text. */
    fun clear() = update { copy(segments = emptyList(), stable = "", unstable = "", notice = null) }

    /** Hold the streams from the next one on to a budget. */
    fun setBudget(budget: Budget) {
        app.settings.budget = budget
        update { copy(budget = budget) }
    }

    /** Show something. */
    fun tell(notice: Notice?) = update { copy(notice = notice) }

    /**
     * Give back what memory can be spared, now or behind the next block. [isShort]: the phone is short of
     * it, which is told; else nobody looks at the app.
     */
    fun releaseMemory(isShort: Boolean) {
        if (isShort) memoryIsShort = true
        releaseIsDue = true
        if (state.phase == Phase.READY) work { releaseIfDue() }
    }

    /** End for good. */
    override fun close() {
        stopping = true
        onChange = {}
        onLevel = {}
        heat.close()
        work { recognizer?.close() }
        worker.shutdown()
    }

    private fun load(choose: () -> String?) {
        if (state.phase != Phase.LOADING && state.phase != Phase.READY && state.phase != Phase.NO_MODEL) return
        update { copy(phase = Phase.LOADING, notice = null) }
        work {
            var notice: Notice? = null
            try {
                val name = choose()
                val found = load(app.models.path(name), cpuClock = Clock(Debug::threadCpuTimeNanos))
                recognizer?.close()
                recognizer = found
                app.settings.model = name
            } catch (error: BundleError) {
                notice = Notice(R.string.bad_model, app.models.readable(error))
            } catch (error: IOException) {
                notice = Notice(R.string.bad_file, error.message.orEmpty())
            }
            val loaded = recognizer
            post {
                copy(
                    phase = if (loaded == null) Phase.NO_MODEL else Phase.READY,
                    model = loaded?.let { it.bundle.name to it.precision },
                    notice = notice,
                )
            }
        }
    }

    /** In the worker: one stream, from its opening to its end. */
    private fun listen() {
        val recognizer = checkNotNull(recognizer) { "a model is loaded where a session can start" }
        try {
            val stream = recognizer.stream(app.settings.budget, EndpointRules(), gate = true)
            if (stopping) return stream.close()
            val microphone = try {
                app.microphones.open { silenced -> main.post { noteSilenced(silenced) } }
            } catch (error: MicrophoneError) {
                stream.close()
                return post { copy(notice = Notice(error.reason)) }
            }
            val live = LiveStream(stream, microphone.sampleRate)
            post { if (phase == Phase.OPENING) copy(phase = Phase.LISTENING) else this }
            val capture = thread(name = "microphone") { capture(microphone, live) }
            try {
                recognise(live)
            } catch (exceeded: BudgetExceeded) {
                show(live, exceeded.events) // and that what waited is lost
                throw exceeded
            } finally {
                stopping = true
                capture.join()
                stream.close()
            }
        } catch (error: BudgetError) {
            post { copy(notice = Notice(R.string.budget_refused, error.message.orEmpty())) }
        } catch (error: AsrError) {
            post { copy(notice = Notice(R.string.recognition_failed, error.message.orEmpty())) }
        }
    }

    /** In the worker. */
    private fun recognise(live: LiveStream) {
        var shownNs = 0L
        var polledNs = 0L
        while (live.await()) {
            val nowNs = System.nanoTime()
            if (polledNs == 0L || nowNs - polledNs > POLL_EVERY_NS) {
                polledNs = nowNs
                val status = heat.poll()
                live.stream.heat = heatOf(status)
                post { if (thermalStatus == status) this else copy(thermalStatus = status) }
            }
            releaseIfDue()
            val events = live.take()
            if (events.isNotEmpty() || nowNs - shownNs > SHOW_EVERY_NS) {
                shownNs = nowNs
                show(live, events)
            }
        }
        show(live, listOf(live.finish()))
    }

    private fun show(live: LiveStream, events: List<Event>) {
        val costs = Costs(live.stream.report(), live.stream.point, residentMb(), live.queuedS)
        post { events.fold(copy(costs = costs)) { state, event -> state.after(event) } }
    }

    /** In a thread of its own: nothing here waits for the recogniser. */
    private fun capture(microphone: Microphone, live: LiveStream) {
        Process.setThreadPriority(Process.THREAD_PRIORITY_URGENT_AUDIO)
        val block = ShortArray((BLOCK_S * microphone.sampleRate).toInt())
        try {
            while (!stopping) push(live, block, microphone.read(block))
            for (number in 0 until REST_BLOCKS) { // what was recorded before the stop
                val count = microphone.readRest(block)
                push(live, block, count)
                if (count < block.size) break
            }
        } catch (error: MicrophoneError) {
            post { copy(notice = Notice(error.reason)) }
        } finally {
            microphone.close()
            live.close()
        }
    }

    private fun push(live: LiveStream, block: ShortArray, count: Int) {
        live.push(block, count) // what it refuses, the next event tells
        val level = level(block, count)
        main.post { onLevel(level) }
    }

    private fun noteSilenced(silenced: Boolean) {
        val since = silencedAtNs
        if (silenced && since == null) {
            silencedAtNs = System.nanoTime()
            tell(Notice(R.string.silenced, kind = Notice.Kind.WARNING))
        } else if (!silenced && since != null) {
            silencedAtNs = null
            tell(Notice(R.string.was_silenced, (System.nanoTime() - since) / 1e9, Notice.Kind.WARNING))
        }
    }

    private fun releaseIfDue() {
        if (!releaseIsDue) return
        releaseIsDue = false
        recognizer?.releaseMemory() ?: return
        if (memoryIsShort) post { copy(notice = notice ?: Notice(R.string.memory_released, kind = Notice.Kind.INFO)) }
        memoryIsShort = false
    }

    private fun work(task: () -> Unit) {
        try {
            worker.execute(task)
        } catch (_: RejectedExecutionException) {
            return // closed
        }
    }

    private fun post(change: ListenState.() -> ListenState) {
        main.post { update(change) }
    }

    private fun update(change: ListenState.() -> ListenState) {
        val before = state.segments
        state = state.change()
        if (state.segments !== before) keeping(Unit) { app.text.keep(state.segments) }
        onChange()
    }

    /** Do something with the text on the disk; say so where that fails. */
    private fun <T> keeping(ifFailed: T, task: () -> T): T = try {
        task()
    } catch (error: IOException) {
        state = state.copy(notice = Notice(R.string.not_kept, error.message.orEmpty()))
        ifFailed
    }
}

/** The root mean square of the first [count] samples, 1 being full scale. */
fun level(block: ShortArray, count: Int): Float {
    var sum = 0.0
    for (i in 0 until count) sum += block[i].toDouble() * block[i]
    return (sqrt(sum / maxOf(1, count)) / 32768).toFloat()
}
