package earshot

import earshot.engines.Engine
import java.util.Random
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.log10
import kotlin.math.pow

/** What a model costs on this machine, and whether a budget can be held with that. */

/** Of fast speech. Noise makes a model emit next to nothing, so their cost is added. */
const val TOKENS_PER_S = 10.0

private const val REPEATS = 3 // the quickest counts: what else runs can only add
private const val SHORTEST_S = 0.96 // of audio in a measurement
private const val OVERLAP_S = 0.06 // what the last chunk needs of the audio behind it, and a little

/** What a model costs on a machine that does nothing else, by point, the best one first. */
class Profile(
    val rtf: Map<OperatingPoint, Double>,
    val growthMb: Map<OperatingPoint, Double>, // of the loaded model by streams no lower than this
)

/** How a stream may run. */
data class Admitted(
    val start: OperatingPoint,
    val preferred: OperatingPoint, // where it runs when it has room
    val rtf: Map<OperatingPoint, Double>, // of the points between which it may move, best first
    val growthMb: Double, // what it may add to the memory of the process
)

/**
 * Decides on budgets, for one model that this process has loaded; the arguments are those of [calibrate].
 * Unlike Python's it keeps nothing on the disk: each process measures for itself.
 */
class Admission(
    private val engine: Engine,
    points: List<OperatingPoint>,
    openStream: (OperatingPoint) -> Stream,
    private val resident: () -> Double = ::residentMb,
) {
    /** What the points cost on this machine. The first call measures. */
    val profile: Profile by lazy { calibrate(engine, points, openStream) }

    /** How a stream may run; see the function [admit]. */
    fun admit(budget: Budget, wish: OperatingPoint): Admitted {
        val profile = profile // before the memory is read: measuring leaves some behind
        return admit(budget, profile, wish, heldMb(budget, profile))
    }

    /**
     * What the process holds: without what earlier streams left in the engine, where that is needed, for
     * a stream that runs would shed it too.
     */
    private fun heldMb(budget: Budget, profile: Profile): Double {
        val heldMb = resident()
        if (heldMb + profile.growthMb.values.max() <= orInfinity(budget.memoryMb)) return heldMb
        shed(engine)
        return resident()
    }
}

/**
 * Measure the points, best first. [openStream] opens one without a budget.
 *
 * What else runs can only add to a cost, and a larger chunk never costs more: a point that was measured
 * to cost more than one above it is taken to cost the same.
 */
fun calibrate(engine: Engine, points: List<OperatingPoint>, openStream: (OperatingPoint) -> Stream): Profile {
    shed(engine) // so that what it grows by holds all that a stream adds ...
    val beforeMb = residentMb()
    val emissionS = emissionS(engine)
    val rtf = LinkedHashMap<OperatingPoint, Double>()
    val growthMb = LinkedHashMap<OperatingPoint, Double>()
    var cheapest = Double.POSITIVE_INFINITY
    var largest = 0.0
    for (point in points) {
        val streamRtf = List(REPEATS) { openStream(point).use { streamRtf(it, point) } }.min()
        cheapest = minOf(cheapest, streamRtf + TOKENS_PER_S * emissionS)
        largest = maxOf(largest, residentMb() - beforeMb)
        rtf[point] = cheapest
        growthMb[point] = largest
    }
    shed(engine) // ... and is not in what the process holds when a stream is admitted
    return Profile(rtf, growthMb)
}

/**
 * How a stream may run: it starts at the point nearest to [wish] that fits. Its ladder begins at the
 * better of these two, or with a budget of latency at the quickest of all, and goes down as far as the
 * memory allows. [heldMb] is the resident memory of this process, with the model loaded.
 *
 * Throws BudgetError where no point fits; it states what would.
 */
fun admit(budget: Budget, profile: Profile, wish: OperatingPoint, heldMb: Double): Admitted {
    val order = profile.rtf.keys.toList()
    val points = order.filter { profile.growthMb.getValue(it) <= orInfinity(budget.memoryMb) - heldMb }
    if (points.isEmpty()) {
        val leastMb = profile.growthMb.values.min()
        throw BudgetError(
            "memory_mb=${general(budget.memoryMb!!)} can't be held: this process holds ${fixed(heldMb, 0)} " +
                "MB with the model loaded, and a stream adds up to ${fixed(leastMb, 0)}; ask for " +
                "${ceil(heldMb + leastMb).toLong()} or more",
        )
    }
    val lowest = points.last()
    val quickest = points.first()
    val rtfLimit = orInfinity(budget.rtf)
    val quick = points.filter { latencyMs(profile, it) <= orInfinity(budget.latencyMs) }
    // Below the lowest there is nothing to move to, so it need not keep clear of its limit.
    val cheap = points.filter {
        profile.rtf.getValue(it) <= (if (it == lowest) rtfLimit else DOWN_AT * rtfLimit)
    }
    val start = quick.filter { it in cheap }.minByOrNull { Math.abs(order.indexOf(it) - order.indexOf(wish)) }
    if (start != null) {
        val preferred = minOf(start, wish)
        val best = if (budget.latencyMs == null) preferred else quickest
        val ladder = points.filter { it >= best }.associateWith { profile.rtf.getValue(it) }
        return Admitted(start, preferred, ladder, profile.growthMb.getValue(lowest))
    }
    throw BudgetError(refusal(budget, profile, quick, cheap, quickest, lowest))
}

private fun refusal(
    budget: Budget,
    profile: Profile,
    quick: List<OperatingPoint>,
    cheap: List<OperatingPoint>,
    quickest: OperatingPoint,
    lowest: OperatingPoint,
): String {
    if (cheap.isEmpty()) {
        val ofThose = if (lowest == profile.rtf.keys.max()) "" else " for which there is memory"
        val needed = general(roundUp(profile.rtf.getValue(lowest)))
        return "rtf=${general(budget.rtf!!)} can't be held: the lowest operating point$ofThose, chunks of " +
            "$lowest, needs $needed on this machine; ask for that or more"
    }
    if (quick.isEmpty()) {
        val needed = ceil(latencyMs(profile, quickest)).toLong()
        return "latency_ms=${general(budget.latencyMs!!)} can't be held: the quickest operating point, " +
            "chunks of $quickest, needs $needed on this machine; ask for that or more"
    }
    val rtf = roundUp(profile.rtf.getValue(quick.last()) / DOWN_AT)
    return "rtf=${general(budget.rtf!!)} and latency_ms=${general(budget.latencyMs!!)} can't be held " +
        "together: on this machine such a latency needs rtf=${general(rtf)}, and such an rtf needs " +
        "latency_ms=${ceil(latencyMs(profile, cheap.first())).toLong()}; ask for one of these, or more"
}

/** Give back what the engine keeps of earlier streams, and what they left for the garbage collector. */
private fun shed(engine: Engine) {
    engine.releaseMemory()
    System.gc()
}

/** Compute time over audio time of some chunks of noise. */
private fun streamRtf(stream: Stream, point: OperatingPoint): Double {
    val chunkS = point.chunkMs / 1000.0
    val chunks = maxOf(1, ceil(SHORTEST_S / chunkS).toInt())
    val random = Random(0)
    val noise = FloatArray(Math.rint(SAMPLE_RATE * (chunks * chunkS + OVERLAP_S)).toInt()) {
        0.05f * random.nextGaussian().toFloat()
    }
    stream.accept(noise)
    return stream.meter.computeS / (chunks * chunkS)
}

/** What one more token costs: the predictor, and joining the rest of a chunk again. */
private fun emissionS(engine: Engine): Double {
    val rows = 8
    val values = engine.predict(LongArray(2 * rows))
    val frames = framesOf(values, values.size / rows) // of the shape of encoder frames
    val logProbs = Frames(engine.vocabSize)
    return (0 until 2 + REPEATS).minOf { token ->
        val started = System.nanoTime()
        engine.join(frames, 0, rows, engine.predict(longArrayOf(0, token.toLong())), logProbs)
        (System.nanoTime() - started) / 1e9
    }
}

private fun latencyMs(profile: Profile, point: OperatingPoint) =
    point.waitMs + profile.rtf.getValue(point) * point.chunkMs

private fun orInfinity(limit: Double?) = limit ?: Double.POSITIVE_INFINITY

/** Round up to two digits. */
private fun roundUp(value: Double): Double {
    val unit = 10.0.pow(floor(log10(value)) - 1)
    return general(ceil(value / unit) * unit, 2).toDouble()
}
