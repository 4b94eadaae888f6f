package earshot

/** Memory that is back within that much audio was not to spare: giving it back doesn't help. */
const val RELEASE_EVERY_S = 10.0

private const val LAST_MINUTE_S = 60.0

/** How much of a stream ran at an operating point. */
data class PointTime(val point: OperatingPoint, val audioS: Double)

/** What a stream cost, and what was decided about it. */
data class BudgetReport(
    val budget: Budget,
    val ladder: List<OperatingPoint>, // best first
    val points: List<PointTime>, // those that it ran at, as they were first used
    val moves: List<Moved>,
    val overruns: List<Overrun>,
    val audioS: Double, // recognised
    val lostAudioS: Double, // refused by a full queue, or still in it when memory ended the stream
    val rtf: Double, // of all
    val rtfLastMin: Double,
    val cpuRtf: Double, // CPU time over audio time; 0 where the meter has no CPU clock
    val latencyP95Ms: Double, // of the last 50 chunks
    val maxQueueS: Double,
)

/** A decision as a line for people. */
fun describe(event: Decision): String = when (event) {
    is Moved -> "${fixed(event.timeS, 1)} s: ${event.fromPoint} -> ${event.toPoint} (${event.reason})"
    is Overrun ->
        "${fixed(event.timeS, 1)} s: over budget: ${event.budget} ${general(event.found, 3)} of " +
            "${general(event.limit, 3)}; ${fixed(event.behindS, 1)} s behind; ${event.action}"
}

/**
 * What stands over a stream: measures its chunks, has the governor decide, and keeps the books. The
 * stream tells it every chunk. Without a budget, it keeps the books, and tells only of a queue that
 * grows.
 *
 * [releaseMemory] gives back what the engine can spare; [resident] says in MB what the process holds.
 */
class Supervisor(
    private val governor: Governor,
    private val releaseMemory: () -> Unit,
    private val resident: () -> Double = ::residentMb,
) {
    /** The operating point for the next chunk. */
    val point: OperatingPoint get() = governor.point

    /** Why the stream must end: its memory passed the budget, and none could be given back. */
    var exhausted: String? = null
        private set

    /**
     * How dear computing is by the heat of the device: 1 when it is cool. The governor is told that each
     * chunk took so many times as long, so a hot phone goes to cheaper points before it is throttled and
     * comes back as from any overload. The books keep what was measured.
     */
    @Volatile
    var heat = 1.0

    private var releasedS: Double? = null // when memory was last given back
    private val points = LinkedHashMap<OperatingPoint, Double>()
    private val moves = ArrayList<Moved>() // these two grow, but by a few a minute at most
    private val overruns = ArrayList<Overrun>()
    private val lastMinute = ArrayDeque<Measurement>()
    private var audioS = 0.0
    private var wallS = 0.0
    private var cpuS = 0.0
    private var lostS = 0.0
    private var maxQueueS = 0.0

    /** Take what a chunk cost and its CPU time; add what was decided to [events]. */
    fun observe(chunk: Measurement, cpuS: Double, events: MutableList<Event>): Decision? {
        count(chunk, cpuS)
        checkMemory(chunk.timeS, chunk.queuedS, events)
        val heat = this.heat
        val decision = governor.observe(if (heat == 1.0) chunk else chunk.copy(wallS = heat * chunk.wallS))
        when (decision) {
            is Moved -> moves += decision
            is Overrun -> overruns += decision
            null -> return null
        }
        events += decision
        return decision
    }

    /**
     * Have memory given back where it passes the budget; add what was decided to [events]. Each chunk is
     * followed by that; while none is computed, whoever holds the stream asks for it.
     */
    fun checkMemory(timeS: Double, queuedS: Double, events: MutableList<Event>) {
        val limit = governor.budget.memoryMb ?: return
        val held = resident()
        if (held <= limit) return
        val justReleased = releasedS.let { it != null && timeS - it < RELEASE_EVERY_S }
        releaseMemory()
        System.gc()
        releasedS = timeS
        val left = resident()
        val givenMb = fixed(maxOf(0.0, held - left), 1) // others may have taken more meanwhile
        var action = "gave back $givenMb MB"
        if (left > limit || justReleased) {
            exhausted = "${fixed(held, 1)} MB of memory with a budget of ${general(limit)} MB, and only " +
                "$givenMb MB could be given back; give the process a larger budget, or open fewer streams " +
                "in it"
            action += " and ended the stream"
        }
        val overrun = Overrun(timeS, "memory", held, limit, queuedS, action)
        overruns += overrun
        events += overrun
    }

    /** Note what followed the last chunk: silence that was skipped. It is no chunk to judge. */
    fun noteRest(rest: Measurement, cpuS: Double) {
        if (rest.audioS > 0) count(rest, cpuS)
    }

    /** Note audio that was taken and will not be recognised. */
    fun noteLost(lostS: Double) {
        this.lostS += lostS
    }

    /** Note how much audio waits: also between chunks, which are far apart if they are large. */
    fun noteQueue(queuedS: Double) {
        maxQueueS = maxOf(maxQueueS, queuedS)
    }

    /** Note that a queue of [limitS] seconds had no room for [refusedS] seconds of audio. */
    fun refuse(timeS: Double, refusedS: Double, queuedS: Double, limitS: Double): Overrun {
        lostS += refusedS
        fun overrun(time: Double, lost: Double) = Overrun(
            time, "audio", queuedS, limitS, queuedS,
            "refused ${fixed(lost, 2)} s of audio: the queue is full", lost,
        )
        val last = overruns.lastOrNull()
        if (last != null && last.budget == "audio" && timeS - last.timeS < OVERRUN_EVERY_S) {
            // One line of the report for many blocks.
            val lost = last.refusedS + refusedS
            overruns[overruns.size - 1] = last.copy(action = overrun(timeS, lost).action, refusedS = lost)
        } else {
            overruns += overrun(timeS, refusedS)
        }
        return overrun(timeS, refusedS)
    }

    /** The books so far. */
    fun report(): BudgetReport = BudgetReport(
        governor.budget,
        governor.ladder,
        points.map { (point, audioS) -> PointTime(point, audioS) },
        moves.toList(),
        overruns.toList(),
        audioS,
        lostS,
        rtf = ratio(wallS, audioS),
        rtfLastMin = ratio(lastMinute.sumOf { it.wallS }, lastMinute.sumOf { it.audioS }),
        cpuRtf = ratio(cpuS, audioS),
        latencyP95Ms = governor.latencyMs,
        maxQueueS,
    )

    private fun count(chunk: Measurement, cpuS: Double) {
        points[chunk.point] = (points[chunk.point] ?: 0.0) + chunk.audioS
        audioS += chunk.audioS
        wallS += chunk.wallS
        this.cpuS += cpuS
        lastMinute.addLast(chunk)
        while (lastMinute.first().timeS < chunk.timeS - LAST_MINUTE_S) lastMinute.removeFirst()
    }

    private fun ratio(seconds: Double, audioS: Double) = if (audioS > 0) seconds / audioS else 0.0
}

/** A supervisor for a stream without a budget. */
fun ungoverned(point: OperatingPoint, releaseMemory: () -> Unit): Supervisor =
    Supervisor(Governor(Budget(), mapOf(point to 1.0)), releaseMemory)
