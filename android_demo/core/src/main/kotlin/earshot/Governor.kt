package earshot

import kotlin.math.max

const val WINDOW_S = 10.0 // of audio: what an RTF is the mean of; one late chunk is no overload
const val LATENCY_CHUNKS = 50 // what the latency is the 95th percentile of
const val DOWN_AT = 0.9 // of a limit: to act before it is broken
const val UP_AT = 0.7 // of a limit: after a move up, 25 % more load doesn't lead down again
const val SETTLE_S = 2.0 // of audio, and
const val SETTLE_CHUNKS = 3 // at least so many chunks, before a point is judged
const val QUEUE_THREAT_S = 1.0 // a queue below that is the jitter of a busy machine
const val QUEUE_CALM_S = 0.5
const val WAIT_S = 10.0 // before a move up, so that the window holds nothing of another point
const val MAX_WAIT_S = 160.0 // four failed tries; beyond it, a stream would stay low for too long
const val TRIAL_S = MAX_WAIT_S // a try that is taken back within this time has failed
const val OVERRUN_EVERY_S = 10.0 // an overrun that goes on is told again after that

/** What a chunk cost. */
data class Measurement(
    val timeS: Double, // seconds of audio that the stream had been given behind it
    val point: OperatingPoint, // with which it was computed
    val audioS: Double, // its length, with silence before it that was skipped
    val wallS: Double, // the computation; waiting for audio doesn't count
    val queuedS: Double = 0.0, // audio that waited behind it
) {
    /** From the arrival of its first sample to its words. */
    val latencyS: Double get() = point.waitMs / 1000.0 + queuedS + wallS
}

/**
 * Which operating point a stream should run at, from what its chunks cost. Holds one stream to its
 * budget.
 *
 * Pure logic: its clock is the audio that was observed. Its rules, and what they guarantee, are told in
 * asr/governor.py; that both make the same moves is tested on 1,000 scripted meters.
 *
 * [costs] is the ladder, best first, with the calibrated RTF of each point; only their ratios count.
 * Without need it goes no higher than [preferred]; null: the best. [start]; null: the preferred.
 */
class Governor(
    val budget: Budget,
    costs: Map<OperatingPoint, Double>,
    start: OperatingPoint? = null,
    preferred: OperatingPoint? = null,
) {
    val ladder: List<OperatingPoint> = costs.keys.toList()

    /** The operating point for the next chunk. */
    val point: OperatingPoint get() = ladder[index]

    /** The p95 of the last 50 chunks; 0 before any. */
    val latencyMs: Double
        get() {
            val ranked = latencies.sorted()
            return if (ranked.isEmpty()) 0.0 else 1000 * ranked[ranked.size - 1 - ranked.size / 20]
        }

    private class Try(val timeS: Double, val origin: Int)

    private val cost = costs.values.toDoubleArray()
    private val limit = budget.rtf ?: 1.0 // what takes longer than its audio never catches up
    private val latencyLimitMs = budget.latencyMs ?: Double.POSITIVE_INFINITY
    private val preferredIndex = preferred?.let { ladder.indexOf(it) } ?: 0
    private var index = start?.let { ladder.indexOf(it) } ?: preferredIndex
    private val window = ArrayDeque<Measurement>() // since the last move, at most WINDOW_S
    private var windowAudioS = 0.0
    private var windowWallS = 0.0
    private val latencies = ArrayDeque<Double>()
    private var nowS = 0.0 // audio observed
    private var movedS = 0.0 // when that was, at the last move
    private var chunks = 0 // since the last move
    private var tried: Try? = null // the try that led here: when, from where
    private var waitS = WAIT_S // from the last move to the next one up
    private var backoffS = WAIT_S // that wait behind a move down, or from above to the preferred
    private var queueJudgedS = 0.0 // when the queue was last judged ...
    private var queueBeforeS = 0.0 // ... and its length then
    private val toldS = HashMap<String, Double>() // when an overrun of each budget was last told

    /** Take what a chunk cost; return what was decided, if anything was. */
    fun observe(chunk: Measurement): Decision? {
        latencies.addLast(chunk.latencyS)
        if (latencies.size > LATENCY_CHUNKS) latencies.removeFirst()
        nowS += chunk.audioS
        if (chunk.point != point) return null // computed before the last move: it says nothing of this one
        add(chunk)
        val queueGrew = queueGrew(chunk.queuedS)
        val heldS = nowS - movedS
        if (chunks < SETTLE_CHUNKS || heldS < SETTLE_S) return null
        val rtf = windowWallS / windowAudioS
        val downAt = if (heldS >= WINDOW_S) DOWN_AT else 1.0 // a few seconds may be bad by chance
        var decision: Decision? = null
        if (budget.rtf != null && rtf > downAt * budget.rtf) {
            decision = goDown(chunk, "rtf", rtf, budget.rtf)
        } else if (queueGrew) {
            decision = goDown(chunk, "queue", chunk.queuedS, QUEUE_THREAT_S)
        }
        return decision ?: improve(chunk, rtf, heldS)
    }

    private fun add(chunk: Measurement) {
        chunks++
        window.addLast(chunk)
        windowAudioS += chunk.audioS
        windowWallS += chunk.wallS
        while (windowAudioS > WINDOW_S && window.size > 1) {
            val old = window.removeFirst()
            windowAudioS -= old.audioS
            windowWallS -= old.wallS
        }
    }

    /** Judge every 2 s of audio whether the queue is long and has grown. */
    private fun queueGrew(queuedS: Double): Boolean {
        if (nowS - queueJudgedS < SETTLE_S) return false
        val beforeS = queueBeforeS
        queueJudgedS = nowS
        queueBeforeS = queuedS
        return queuedS > max(QUEUE_THREAT_S, beforeS)
    }

    /** The RTF over the last 2 s and 3 chunks. */
    private fun latestRtf(): Double {
        var audioS = 0.0
        var wallS = 0.0
        for (number in 1..window.size) {
            val chunk = window[window.size - number]
            audioS += chunk.audioS
            wallS += chunk.wallS
            if (number >= SETTLE_CHUNKS && audioS >= SETTLE_S) break
        }
        return wallS / audioS
    }

    /** The RTF to expect at a point, when it is [rtf] at the present one. */
    private fun predicted(at: Int, rtf: Double): Double = rtf * cost[at] / cost[index]

    /**
     * The latency to expect at a point, by the chunks since the last move, of the last 10 s: their p95,
     * and of few chunks the second highest, for a late one may be chance.
     */
    private fun predictedLatencyMs(at: Int): Double {
        val there = ladder[at]
        val dearer = predicted(at, 1.0) * there.chunkMs / point.chunkMs
        val behindS = DoubleArray(window.size) { window[it].queuedS + dearer * window[it].wallS }
        behindS.sort()
        val worse = minOf(max(1, behindS.size / 20), behindS.size - 1)
        return there.waitMs + 1000 * behindS[behindS.size - 1 - worse]
    }

    private fun goDown(chunk: Measurement, what: String, found: Double, most: Double): Decision? {
        val below = index + 1 until ladder.size
        if (below.isEmpty()) {
            if (found <= most) return null // threatened only
            return overrun(chunk, what, found, most, "stays at the lowest point, $point")
        }
        val failedFrom = judgeTry()
        val target = when {
            failedFrom != null && failedFrom > index -> failedFrom
            what == "queue" -> below.first
            else -> below.firstOrNull { predicted(it, found) <= DOWN_AT * most } ?: below.last
        }
        waitS = backoffS
        return move(chunk, target, "$what ${general(found, 3)} of ${general(most)}")
    }

    /** Go where the stream does better, if it can; tell where a broken latency has to stay. */
    private fun improve(chunk: Measurement, windowRtf: Double, heldS: Double): Decision? {
        val isLate = budget.latencyMs != null && predictedLatencyMs(index) > budget.latencyMs
        if (isLate || index > preferredIndex) {
            val rtf = max(windowRtf, latestRtf()) // words are late before an overload is in the mean
            val obstacle = obstacle(chunk, rtf)
            if (obstacle == null && heldS >= waitS) return goUp(chunk, rtf, isLate)
            if (isLate && (obstacle != null || heldS >= WAIT_S)) {
                return late(chunk, obstacle ?: "a quicker one failed lately")
            }
        } else if (index < preferredIndex && heldS >= backoffS) {
            return goBack(chunk)
        }
        return null
    }

    /** What is in the way of the point above; null if nothing is but time. */
    private fun obstacle(chunk: Measurement, rtf: Double): String? = when {
        index == 0 -> "it is the quickest of this stream"
        predicted(index - 1, rtf) > UP_AT * limit -> "a quicker one would break the rtf"
        chunk.queuedS > QUEUE_CALM_S -> "a quicker one would be slower to catch up"
        else -> null
    }

    private fun goUp(chunk: Measurement, rtf: Double, isLate: Boolean): Moved {
        val above = predicted(index - 1, rtf)
        var reason = "rtf ${general(rtf, 3)}; ${general(above, 3)} expected there, of ${general(limit)}"
        if (isLate) {
            val latencyMs = predictedLatencyMs(index)
            reason = "latency ${fixed(latencyMs, 0)} ms of ${general(latencyLimitMs)}; $reason"
            if (tried.let { it != null && it.origin < index }) judgeTry() // the way back
        }
        return tryPoint(chunk, index - 1, reason)
    }

    /** From above to the preferred point, where that leaves the latency some room. */
    private fun goBack(chunk: Measurement): Moved? {
        val thereMs = predictedLatencyMs(preferredIndex)
        val waitMs = ladder[preferredIndex].waitMs
        if (thereMs > waitMs + UP_AT * (latencyLimitMs - waitMs)) return null
        val reason = "latency ${fixed(thereMs, 0)} ms expected there, of ${general(latencyLimitMs)}"
        return tryPoint(chunk, preferredIndex, reason)
    }

    /** Move without need. */
    private fun tryPoint(chunk: Measurement, to: Int, reason: String): Moved {
        val origin = index
        waitS = WAIT_S
        val move = move(chunk, to, reason)
        tried = Try(nowS, origin)
        return move
    }

    /** End the last try, if one led here. Return where it came from if that is too soon. */
    private fun judgeTry(): Int? {
        val last = tried ?: return null
        tried = null
        if (nowS - last.timeS < TRIAL_S) {
            backoffS = minOf(2 * backoffS, MAX_WAIT_S)
            return last.origin
        }
        backoffS = max(backoffS / 2, WAIT_S)
        return null
    }

    private fun move(chunk: Measurement, to: Int, reason: String): Moved {
        val before = point
        index = to
        movedS = nowS
        queueJudgedS = nowS
        queueBeforeS = chunk.queuedS
        chunks = 0
        window.clear()
        windowAudioS = 0.0
        windowWallS = 0.0
        return Moved(chunk.timeS, before, point, reason)
    }

    private fun late(chunk: Measurement, why: String): Overrun? =
        overrun(chunk, "latency", predictedLatencyMs(index), latencyLimitMs, "stays at $point: $why")

    private fun overrun(chunk: Measurement, what: String, found: Double, most: Double, action: String): Overrun? {
        if (nowS - (toldS[what] ?: -OVERRUN_EVERY_S) < OVERRUN_EVERY_S) return null
        toldS[what] = nowS
        return Overrun(chunk.timeS, what, found, most, chunk.queuedS, action)
    }
}
