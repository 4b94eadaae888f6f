package earshot

import earshot.decoding.EndpointRules
import earshot.decoding.Search
import earshot.decoding.SilenceGate
import earshot.engines.Engine

private const val SLICE_SAMPLES = 16_000 // a block of any length goes through in slices

/**
 * Recognises one stream of audio; [Recognizer.stream] opens it.
 *
 * A chunk of C encoder frames is computed as soon as its 4C + 3 feature frames are there. At the end the
 * audio is padded with silence, as every utterance was in training, and the whole encoder frames that
 * remain go through as one shorter chunk: no word is lost at either end.
 *
 * Everything that a stream holds has a fixed size but the transcript. It isn't safe to use from two
 * threads at once, but for [heat], [text] and [report], which another may read stale.
 *
 * [pieces] is the token table. [streaming] has the first chunk size; [supervisor] holds the stream to a
 * budget, and from then on sets it. [endpoints] cuts it into segments, and [gate] keeps long silence from
 * the encoder.
 */
class Stream(
    private val engine: Engine,
    search: Search,
    pieces: List<String>,
    features: FeatureConfig,
    private val streaming: StreamingConfig,
    val meter: RtfMeter = RtfMeter(),
    supervisor: Supervisor? = null,
    endpoints: EndpointRules? = null,
    private val gate: SilenceGate? = null,
) : AutoCloseable {
    /** Seconds of audio given so far. */
    val audioS: Double get() = resampler?.let { samples.toDouble() / it.inRate } ?: 0.0

    /** The transcript so far, of all segments. */
    val text: String get() = segmenter.text

    /** The tokens of the open segment: those behind the text of the last partial. */
    val segmentTokens: List<Token> get() = segmenter.tokens

    /** The operating point of the next chunk. */
    val point: OperatingPoint get() = OperatingPoint(Math.rint(1000 * chunkFrames * frameS).toInt())

    /** Seconds of silence that the gate has kept from the encoder. */
    val skippedS: Double get() = skippedFrames * frameS

    /** Encoder frames (40 ms) of the next chunk, C. It may change from chunk to chunk. */
    var chunkFrames: Int = streaming.chunkFrames
        set(value) {
            if (value !in 1..MAX_CHUNK_FRAMES) {
                throw AsrError("a chunk of $value frames; expected 1 to $MAX_CHUNK_FRAMES")
            }
            field = value
        }

    /** Seconds of audio that wait before this stream; whoever holds that queue says so here. */
    var queuedS: Double = 0.0
        set(value) {
            field = value
            supervisor.noteQueue(value)
        }

    /** See [Supervisor.heat]. */
    var heat: Double
        get() = supervisor.heat
        set(value) {
            supervisor.heat = value
        }

    private val frameS = streaming.subsamplingFactor * features.frameShiftMs / 1000
    private val supervisor = supervisor ?: ungoverned(point, engine::releaseMemory)
    private val frames = Frames(features.numMelBins) // features that are not encoded yet
    private val filterBank = FilterBank(features, frames)
    private var resampler: StreamingResampler? = null // made when the first rate is known
    private val state = engine.initialState()
    private val segmenter = Segmenter(search, Transcript(pieces, frameS), frameS, endpoints)
    private val slice = FloatArray(SLICE_SAMPLES)
    private var samples = 0L
    private var skippedFrames = 0
    private var ended = false
    private var finished = false
    private var passedFrames = 0L // encoder frames that were encoded or skipped
    private var judgedWallS = 0.0 // wall and CPU seconds and those frames, up to the last chunk
    private var judgedCpuS = 0.0
    private var judgedFrames = 0L

    init {
        if (supervisor != null) goTo(supervisor.point)
    }

    /**
     * Take the first [count] of a block of mono samples, 16-bit; return what became known by it. The
     * rate in Hz is the same for the whole stream. Throws AudioError for another or an impossible rate,
     * [BudgetExceeded] where memory ends the stream, AsrError if it has ended.
     */
    fun accept(samples: ShortArray, count: Int = samples.size, sampleRate: Int = SAMPLE_RATE): List<Event> =
        acceptSlices(count, sampleRate) { from, size ->
            for (i in 0 until size) slice[i] = samples[from + i] / 32768f
        }

    /** The same for floats in [-1, 1]. Throws AudioError also for NaN, Inf, and values far beyond. */
    fun accept(samples: FloatArray, count: Int = samples.size, sampleRate: Int = SAMPLE_RATE): List<Event> {
        checkSamples(samples, count)
        return acceptSlices(count, sampleRate) { from, size -> System.arraycopy(samples, from, slice, 0, size) }
    }

    /**
     * End the stream, and recognise what it still holds, the last word included. Returns the last event,
     * with the result. Throws AsrError if it is finished already, [BudgetExceeded] as [accept].
     */
    fun finish(): Final {
        if (finished) throw AsrError("this stream is finished; open another with recognizer.stream()")
        end()
        val events = ArrayList<Event>()
        run(events)
        segmenter.finish(audioS, events)
        finished = true
        supervisor.noteRest(measure(), takeCpuS())
        close()
        return Final(
            audioS,
            events.filterIsInstance<Partial>().flatMap { it.newWords },
            segmenter.result(audioS),
            events.filterIsInstance<Endpoint>(),
            events.filterIsInstance<Decision>(),
        )
    }

    /** Give back the state of a stream that will not be finished. */
    override fun close() {
        ended = true
        finished = true
        state.close()
    }

    /** Note that the queue before this stream had no room for audio; return the event that says so. */
    fun refuse(refusedS: Double, limitS: Double): Overrun = supervisor.refuse(audioS, refusedS, queuedS, limitS)

    /** Note that audio which waited before this stream will not be recognised: it has ended. */
    fun noteLost(lostS: Double) = supervisor.noteLost(lostS)

    /** What the stream cost so far, what it was held to, and every decision. */
    fun report(): BudgetReport = supervisor.report()

    private inline fun acceptSlices(count: Int, sampleRate: Int, fill: (from: Int, size: Int) -> Unit): List<Event> {
        checkOpen()
        val resampler = resamplerFor(sampleRate)
        val events = ArrayList<Event>(0)
        var from = 0
        do {
            val size = minOf(SLICE_SAMPLES, count - from)
            fill(from, size)
            from += size
            meter.computing {
                resampler.accept(slice, size)
                hear { filterBank.accept(resampler.output, resampler.ready) }
            }
            samples += size
            meter.addAudio(size.toDouble() / sampleRate)
            run(events)
        } while (from < count)
        return events
    }

    /** No more audio follows: the last windows become ready. */
    private fun end() {
        ended = true
        val resampler = resampler
        if (resampler == null || samples == 0L) return
        meter.computing {
            hear {
                resampler.finish()
                filterBank.accept(resampler.output, resampler.ready)
                filterBank.accept(FloatArray(streaming.tailSamples))
                filterBank.finish()
            }
        }
    }

    /** Let the gate hear the features that [compute] adds. */
    private inline fun hear(compute: () -> Unit) {
        val before = frames.rows
        compute()
        if (gate != null) {
            gate.accept(frames, before)
            skipSilence()
        }
    }

    /** Encode and search every window that is ready; add what became known to [events]. */
    private fun run(events: MutableList<Event>) {
        if (isGated()) { // others may take memory while nothing is computed here
            supervisor.checkMemory(audioS, queuedS, events)
            endIfExhausted(events)
        }
        while (true) {
            val rows = nextWindow()
            if (rows == 0) return
            meter.computing {
                val encoderOut = engine.encode(frames, rows, state)
                passOn(encoderOut.rows)
                segmenter.accept(encoderOut, audioS, events)
                skipSilence()
            }
            supervise(events)
        }
    }

    /** How many feature frames the next chunk has, 0 until all are there, and while the gate is closed. */
    private fun nextWindow(): Int {
        if (isGated()) return 0
        val ready = streaming.encoderFrames(frames.rows)
        if (ready == 0 || (ready < chunkFrames && !ended)) return 0
        return streaming.featureFrames(minOf(ready, chunkFrames))
    }

    /** Have the chunk that was just searched judged, and do what is decided. */
    private fun supervise(events: MutableList<Event>) {
        val decision = supervisor.observe(measure(), takeCpuS(), events)
        if (decision is Moved) goTo(decision.toPoint)
        endIfExhausted(events)
    }

    private fun endIfExhausted(events: MutableList<Event>) {
        val why = supervisor.exhausted ?: return
        segmenter.finish(audioS, events, reason = "the memory passed its budget")
        close()
        throw BudgetExceeded(why, segmenter.result(audioS), events)
    }

    /** What was measured since this was last called: a chunk, and silence that was skipped. */
    private fun measure(): Measurement {
        val chunk = Measurement(
            audioS,
            point,
            (passedFrames - judgedFrames) * frameS,
            meter.computeS - judgedWallS,
            queuedS,
        )
        judgedWallS = meter.computeS
        judgedFrames = passedFrames
        return chunk
    }

    private fun takeCpuS(): Double = (meter.cpuS - judgedCpuS).also { judgedCpuS = meter.cpuS }

    private fun goTo(point: OperatingPoint) {
        chunkFrames = Math.rint(point.chunkMs / 1000.0 / frameS).toInt()
    }

    private fun isGated(): Boolean = gate != null && gate.isClosed(segmenter.idleFrames)

    /**
     * Leave behind what the gate allows to be skipped. Whole chunks, so that the chunks of what follows
     * begin where they would have begun.
     */
    private fun skipSilence() {
        if (gate == null) return
        var skipped = gate.skippable(segmenter.idleFrames, ended)
        if (ended) {
            skipped = minOf(skipped, streaming.encoderFrames(frames.rows))
        } else {
            skipped -= skipped % chunkFrames
        }
        passOn(skipped)
        segmenter.skip(skipped)
        skippedFrames += skipped
    }

    /** Leave the features of the next [count] encoder frames behind. */
    private fun passOn(count: Int) {
        frames.drop(streaming.subsamplingFactor * count)
        passedFrames += count
        gate?.passOn(count)
    }

    private fun checkOpen() {
        if (ended) throw AsrError("this stream is finished; open another with recognizer.stream()")
    }

    private fun resamplerFor(rate: Int): StreamingResampler {
        val resampler = this.resampler ?: StreamingResampler(rate).also { this.resampler = it }
        if (rate != resampler.inRate) {
            throw AudioError(
                "a block at $rate Hz in a stream that began at ${resampler.inRate} Hz; open another stream " +
                    "for another rate",
            )
        }
        return resampler
    }
}
