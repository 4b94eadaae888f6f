package earshot.app

import earshot.Budget
import earshot.BudgetReport
import earshot.Decision
import earshot.Endpoint
import earshot.Event
import earshot.Final
import earshot.OperatingPoint
import earshot.Overrun
import earshot.Partial

private const val DECISIONS = 50 // that the screen keeps; the report has all

/** What the session is doing. */
enum class Phase { LOADING, NO_MODEL, READY, OPENING, LISTENING, FINISHING }

/** What a stream costs now. */
data class Costs(
    val rtf: Double, // of the last minute
    val memoryMb: Double, // resident, of the whole app
    val point: OperatingPoint,
    val ladder: List<OperatingPoint>, // best first
    val queuedS: Double,
    val lostS: Double,
) {
    constructor(report: BudgetReport, point: OperatingPoint, memoryMb: Double, queuedS: Double) :
        this(report.rtfLastMin, memoryMb, point, report.ladder, queuedS, report.lostAudioS)
}

/** All that the main screen shows. */
data class ListenState(
    val phase: Phase = Phase.LOADING,
    val model: Pair<String, String>? = null, // name and precision
    val segments: List<String> = emptyList(), // closed ones
    val stable: String = "", // of the open segment: later text is only appended to it
    val unstable: String = "", // what follows it and may change
    val budget: Budget = Budget(),
    val costs: Costs? = null,
    val decisions: List<Decision> = emptyList(), // the latest last
    val thermalStatus: Int = 0, // PowerManager.THERMAL_STATUS_*
    val notice: Notice? = null,
) {
    /** The whole text, a line a segment. */
    val text: String get() = (segments + (stable + unstable)).filter { it.isNotBlank() }.joinToString("\n")

    /** What is shown after an event of the stream. */
    fun after(event: Event): ListenState = when (event) {
        is Partial -> copy(stable = event.stableText, unstable = event.text.removePrefix(event.stableText))
        is Endpoint -> close(event.text)
        is Decision -> copy(
            decisions = (decisions + event).takeLast(DECISIONS),
            notice = if (event is Overrun && event.refusedS > 0) lostNotice(event) else notice,
        )
        is Final -> (event.endpoints + event.decisions).fold(this) { state, part -> state.after(part) }.close()
    }

    /** The open segment is over; [text] is what it came to. */
    fun close(text: String = stable + unstable): ListenState =
        copy(segments = if (text.isBlank()) segments else segments + text, stable = "", unstable = "")

    private fun lostNotice(overrun: Overrun): Notice {
        val before = if (notice?.text == R.string.audio_lost) notice.arguments.first() as Double else 0.0
        return Notice(R.string.audio_lost, before + overrun.refusedS)
    }
}
