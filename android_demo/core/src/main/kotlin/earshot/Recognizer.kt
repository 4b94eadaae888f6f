package earshot

import earshot.decoding.EndpointRules
import earshot.decoding.GreedySearch
import earshot.decoding.SilenceGate
import earshot.engines.Engine
import earshot.engines.openEngine
import earshot.engines.verifyGolden
import java.io.File

/**
 * A model, ready to recognise. Streams share its weights and nothing else, so each may run in a thread of
 * its own. [load] opens one; [chunkMs] is the audio per encoder call with which streams begin, null that
 * of the bundle. [cpuClock] is as for [RtfMeter].
 */
class Recognizer(
    val bundle: Bundle,
    private val engine: Engine,
    val precision: String,
    chunkMs: Int? = null,
    private val cpuClock: Clock? = null,
) : AutoCloseable {
    /** Audio per encoder call with which streams begin. */
    val chunkMs: Int = chunkMs ?: (bundle.streaming.chunkFrames * bundle.frameMs)

    private val pieces = bundle.readTokens()
    private val streaming = bundle.streaming.copy(chunkFrames = chunkFrames(this.chunkMs))
    private val admission = Admission(engine, (CHUNKS_MS + this.chunkMs).distinct().sorted().map(::OperatingPoint), {
        open(streaming.copy(chunkFrames = chunkFrames(it.chunkMs)))
    })

    /**
     * Open a stream for audio that arrives block by block; [endpoints] cut it into segments, and with
     * [gate] long silence is kept from the encoder.
     *
     * With a budget, it starts at the operating point nearest to [chunkMs] that fits on this machine, and
     * moves between that point and cheaper ones as it must. The first such stream takes a moment longer
     * to open: it measures what the points cost. Throws BudgetError for a budget that can't be held.
     */
    fun stream(budget: Budget? = null, endpoints: EndpointRules? = null, gate: Boolean = false): Stream {
        if (budget == null) return open(streaming, null, endpoints, gate)
        val admitted = admission.admit(budget, OperatingPoint(chunkMs))
        val governor = Governor(budget, admitted.rtf, admitted.start, admitted.preferred)
        return open(streaming, Supervisor(governor, engine::releaseMemory), endpoints, gate)
    }

    /** The RTF that each operating point has on this machine when it does nothing else, best first. */
    fun calibratedRtf(): Map<OperatingPoint, Double> = admission.profile.rtf

    /** Give back what was kept to be faster; streams go on. */
    fun releaseMemory() = engine.releaseMemory()

    override fun close() = engine.close()

    private fun open(
        streaming: StreamingConfig,
        supervisor: Supervisor? = null,
        endpoints: EndpointRules? = null,
        gate: Boolean = false,
    ) = Stream(
        engine,
        GreedySearch(engine),
        pieces,
        bundle.features,
        streaming,
        RtfMeter(cpuClock = cpuClock),
        supervisor,
        endpoints,
        if (gate) SilenceGate(streaming) else null,
    )

    private fun chunkFrames(chunkMs: Int): Int {
        val longestMs = MAX_CHUNK_FRAMES * bundle.frameMs
        if (chunkMs !in bundle.frameMs..longestMs || chunkMs % bundle.frameMs != 0) {
            throw AsrError(
                "a chunk of $chunkMs ms; expected a multiple of ${bundle.frameMs} ms up to $longestMs, best " +
                    "160, 320 or 640",
            )
        }
        return chunkMs / bundle.frameMs
    }
}

/**
 * Load the bundle at [path], a directory or a zip. Its files are checked against their checksums, and the encoder's output on
 * this machine against the golden one, so a damaged model or a miscomputing machine is refused.
 *
 * Throws BundleError: no bundle there, or it is damaged, or it fails the self-test; AsrError for an
 * impossible [chunkMs] or [threads].
 */
fun load(
    path: File,
    precision: String? = null, // the bundle's first
    chunkMs: Int? = null,
    threads: Int = 1,
    cpuClock: Clock? = null,
): Recognizer {
    val bundle = openBundle(path)
    val engine = openEngine(bundle, precision, threads)
    try {
        val found = bundle.graphs(precision).precision
        verifyGolden(bundle, engine, found)
        return Recognizer(bundle, engine, found, chunkMs, cpuClock)
    } catch (error: AsrError) {
        engine.close()
        throw error
    }
}
