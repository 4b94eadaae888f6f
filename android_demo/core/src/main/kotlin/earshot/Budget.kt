package earshot

/** What a stream may cost, and the operating points between which it can choose; see asr/budget.py. */

/** The rungs, best first. Each answers later than the one before it and costs less per second of audio. */
val CHUNKS_MS: List<Int> = listOf(160, 320, 640, 1280, 2560)

/**
 * Audio behind a chunk that its last frame needs: 3 feature frames more, and 7.5 ms by which the window
 * of the last one reaches beyond its 10 ms.
 */
const val LOOK_AHEAD_MS = 38

/** What a stream is held to; null is no limit. */
data class Budget(
    val rtf: Double? = null, // compute time per audio time
    val memoryMb: Double? = null, // resident memory of the process, 10^6 bytes
    val latencyMs: Double? = null, // from a chunk's first sample to its words
) {
    init {
        for ((name, limit) in listOf("rtf" to rtf, "memory_mb" to memoryMb, "latency_ms" to latencyMs)) {
            if (limit != null && !(limit > 0 && limit.isFinite())) {
                throw AsrError("a budget of $name=$limit; expected a positive number")
            }
        }
    }
}

/** One way to run a stream. The smaller, the better and the dearer. */
data class OperatingPoint(val chunkMs: Int) : Comparable<OperatingPoint> { // audio per encoder call
    /** Audio from the first sample of a chunk to the last one that it needs. */
    val waitMs: Int get() = chunkMs + LOOK_AHEAD_MS

    override fun compareTo(other: OperatingPoint): Int = chunkMs.compareTo(other.chunkMs)

    override fun toString(): String = "$chunkMs ms"
}
