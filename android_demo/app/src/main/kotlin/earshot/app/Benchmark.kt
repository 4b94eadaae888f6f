package earshot.app

import earshot.Clock
import earshot.Partial
import earshot.Recognizer
import earshot.load
import earshot.peakRssMb
import earshot.residentMb
import earshot.wordErrors
import earshot.words
import java.io.File
import org.json.JSONArray
import org.json.JSONObject

private const val REPEAT = 3 // measured passes over the recordings
private const val WARM_UP = 1
private const val BINS = 40
private const val SAMPLE_S = 1.0
private const val MINUTE_S = 60.0
private const val MIN_BATTERY_S = 600.0 // a battery's gauge is slow: a shorter run says nothing
private const val IDLE_S = 60
private const val THROTTLED_FROM = 2 // PowerManager.THERMAL_STATUS_MODERATE: then the system slows down
private const val BATTERY = "battery"
private val ENERGY_ROWS = mapOf(
    "energy_mj_per_audio_s" to "mJ/s of audio",
    "energy_raw_mj_per_audio_s" to "mJ/s of audio",
    "mwh_per_audio_h" to "mWh/h of audio",
    "mah_per_audio_h" to "mAh/h of audio",
)

/** How far a benchmark is. */
sealed interface Progress {
    data object Loading : Progress
    data object WarmUp : Progress
    data class Pass(val number: Int, val of: Int) : Progress
    data object Idle : Progress
    data class Second(val number: Int, val of: Int, val rtf: Double?, val thermalStatus: Int) : Progress
}

/** A run was stopped before it had anything to tell. */
class BenchmarkStopped : Exception()

/**
 * Measures a model on this phone. The result is the JSON of `asr bench`, so `asr report` reads it; the
 * chunks' times are those of blocks of one chunk from samples to events.
 *
 * Throws AsrError where the model can't be used, BenchmarkStopped.
 */
class Benchmark(
    private val path: File,
    private val recordings: List<Recording>,
    private val device: Device,
    private val isStopped: () -> Boolean = { false },
    private val clock: Clock = Clock(System::nanoTime),
    private val sleep: (Long) -> Unit = Thread::sleep, // milliseconds
    private val watch: (Progress) -> Unit = {},
) {
    private class Pass(
        val computeS: Double,
        val audioS: Double,
        val chunksMs: List<Double>,
        val firstPartialsMs: List<Double>,
        val responsesMs: List<Double>,
        val tokens: Int,
        val texts: List<String>,
    )

    private class Sample(val t: Double, val rtf: Double?, val rssMb: Double, val reading: Reading)

    /** Loading, and the recordings several times: kind "bench". */
    fun runShort(): JSONObject {
        watch(Progress.Loading)
        val started = clock.nanos()
        return load(path).use { recognizer ->
            val loadMs = (clock.nanos() - started) / 1e6
            val rssLoadMb = residentMb()
            val firstChunkMs = playRecording(recognizer, recordings.first()).chunksMs.first()
            watch(Progress.WarmUp)
            repeat(WARM_UP) { pass(recognizer) ?: throw BenchmarkStopped() }
            val passes = ArrayList<Pass>()
            for (number in 1..REPEAT) {
                watch(Progress.Pass(number, REPEAT))
                passes += pass(recognizer) ?: break
            }
            if (passes.isEmpty()) throw BenchmarkStopped()
            val rows = wordRows(passes.first()) + speedRows(recognizer, passes) + mapOf(
                "load_ms" to figure(loadMs, "ms", "in the app, checksums and self-test included"),
                "first_chunk_ms" to figure(firstChunkMs, "ms"),
                "rss_load_mb" to figure(rssLoadMb, "MB", "the whole app"),
                "rss_peak_mb" to figure(peakRssMb(), "MB", "the whole app"),
            ) + ENERGY_ROWS.mapValues { (_, unit) -> notAvailable(unit, "measured by a run of 10 minutes or more") }
            describeRun("bench", recognizer.bundle, recognizer.precision, recognizer.chunkMs, device)
                .put("threads", 1)
                .put("sources", JSONArray(recordings.map { it.name }))
                .put("repeat", REPEAT)
                .put("warmup", WARM_UP)
                .put("cooldown_s", 0)
                .put("complete", passes.size == REPEAT)
                .put("audio_s", passes.first().audioS)
                .put("rows", rowsToJson(rows))
                .put("chunk_ms_histogram", histogram(passes.flatMap { it.chunksMs }))
        }
    }

    /** The recordings again and again for [seconds]: kind "sustained". */
    fun runSustained(seconds: Int): JSONObject {
        watch(Progress.Loading)
        return load(path).use { recognizer ->
            val idleW = if (seconds >= MIN_BATTERY_S) idleWatts() else null
            val samples = ArrayList<Sample>()
            var audioS = 0.0
            var computeS = 0.0
            var seenAudioS = 0.0
            var seenComputeS = 0.0
            val started = clock.nanos()
            fun nowS() = (clock.nanos() - started) / 1e9
            var dueS = SAMPLE_S
            fun look() {
                val heardS = audioS - seenAudioS
                val rtf = if (heardS > 0) (computeS - seenComputeS) / heardS else null
                samples += Sample(nowS(), rtf, residentMb(), device.read())
                seenAudioS = audioS
                seenComputeS = computeS
                dueS = maxOf(dueS + SAMPLE_S, nowS())
                watch(Progress.Second(nowS().toInt(), seconds, rtf, samples.last().reading.thermalStatus))
            }
            fun isOver() = isStopped() || nowS() >= seconds
            while (!isOver()) {
                for (recording in recordings) {
                    val (audioBefore, computeBefore) = audioS to computeS
                    playRecording(recognizer, recording) { stream ->
                        audioS = audioBefore + stream.audioS
                        computeS = computeBefore + stream.meter.computeS
                        if (nowS() >= dueS) look()
                        !isOver()
                    }
                    if (isOver()) break
                }
            }
            val ranS = nowS()
            if (samples.isEmpty()) throw BenchmarkStopped()
            describeRun("sustained", recognizer.bundle, recognizer.precision, recognizer.chunkMs, device)
                .put("threads", 1)
                .put("sources", JSONArray(recordings.map { it.name }))
                .put("seconds", ranS)
                .put("audio_s", audioS)
                .put("complete", ranS >= seconds)
                .put("rows", rowsToJson(sustainedRows(samples, ranS, audioS, idleW)))
                .put("samples", JSONArray(samples.map(::sampleToJson)))
        }
    }

    private fun pass(recognizer: Recognizer): Pass? {
        val passes = recordings.map { playRecording(recognizer, it) { !isStopped() } }
        if (isStopped()) return null
        return Pass(
            passes.sumOf { it.computeS },
            passes.sumOf { it.audioS },
            passes.flatMap { it.chunksMs },
            passes.flatMap { it.firstPartialsMs },
            passes.flatMap { it.responsesMs },
            passes.sumOf { it.tokens },
            passes.flatMap { it.texts },
        )
    }

    /** One stream, as fast as it can; [goOn] is asked behind every chunk. */
    private fun playRecording(
        recognizer: Recognizer,
        recording: Recording,
        goOn: (earshot.Stream) -> Boolean = { true },
    ): Pass {
        val stream = recognizer.stream()
        val size = recognizer.chunkMs * 16
        val block = ShortArray(size)
        val chunksMs = ArrayList<Double>()
        var firstMs: Double? = null
        var from = 0
        var judgedS = 0.0
        while (from < recording.samples.size) {
            val count = minOf(size, recording.samples.size - from)
            recording.samples.copyInto(block, 0, from, from + count)
            val events = stream.accept(block, count)
            from += count
            // A chunk needs a little of the audio behind it, so the first comes with the second block.
            if (count == size && from > size) {
                chunksMs += 1000 * (stream.meter.computeS - judgedS)
                judgedS = stream.meter.computeS
            }
            if (firstMs == null && events.any { it is Partial && it.text.isNotEmpty() }) {
                firstMs = 1000 * stream.audioS + (chunksMs.lastOrNull() ?: 0.0)
            }
            if (!goOn(stream)) break
        }
        val beforeS = stream.meter.computeS
        val result = stream.finish().result
        return Pass(
            stream.meter.computeS,
            stream.audioS,
            chunksMs,
            listOfNotNull(firstMs),
            listOf(1000 * (stream.meter.computeS - beforeS)),
            result.tokens.size,
            listOf(result.text),
        )
    }

    private fun wordRows(pass: Pass): Map<String, Row> {
        val count = recordings.sumOf { words(it.text).size }
        val errors = recordings.indices.sumOf { wordErrors(recordings[it].text, pass.texts[it]) }
        return mapOf(
            "wer" to figure(errors.toDouble() / count, ""),
            "words" to figure(count.toDouble(), "words"),
        )
    }

    private fun speedRows(recognizer: Recognizer, passes: List<Pass>): Map<String, Row> {
        val bundle = recognizer.bundle
        val chunkMs = recognizer.chunkMs
        fun over(unit: String = "", value: (Pass) -> Double) = figure(passes.map(value), unit)
        val graphs = bundle.graphs(recognizer.precision)
        val files = setOf(graphs.encoder, graphs.predictor, graphs.joiner)
        val rows = linkedMapOf(
            "size_mb" to figure(files.sumOf { bundle.files.getValue(it).bytes } / 1e6, "MB"),
            "params" to figure(bundle.model.parameters.toDouble(), ""),
            "rtf" to over { it.computeS / it.audioS },
            "rtfx" to over { it.audioS / it.computeS },
            "rtf_p95_chunk" to over { percentile(it.chunksMs, 95) / chunkMs },
        )
        for (percent in listOf(50, 95, 99)) rows["chunk_ms_p$percent"] = over("ms") { percentile(it.chunksMs, percent) }
        rows["chunks_per_s"] = over("chunks/s") { it.chunksMs.size / it.computeS }
        rows["tokens_per_s"] = over("tokens/s") { it.tokens / it.computeS }
        rows["deadline_miss_percent"] = over("%") { pass ->
            100.0 * pass.chunksMs.count { it > chunkMs } / pass.chunksMs.size
        }
        rows["algorithmic_latency_ms"] = figure(recognizer.stream().use { it.point.waitMs.toDouble() }, "ms")
        rows["first_partial_ms"] = if (passes.all { it.firstPartialsMs.isNotEmpty() }) {
            over("ms") { percentile(it.firstPartialsMs, 50) }
        } else {
            notAvailable("ms", "no text was shown before the end of a recording")
        }
        for (percent in listOf(50, 90)) {
            rows["response_latency_ms_p$percent"] = over("ms") { percentile(it.responsesMs, percent) }
        }
        return rows
    }

    private fun sustainedRows(samples: List<Sample>, ranS: Double, audioS: Double, idleW: Double?): Map<String, Row> {
        val short = "${ranS.toInt()} s; it takes two minutes or more"
        val isLong = ranS >= 2 * MINUTE_S
        val timed = samples.filter { it.rtf != null }
        val rtfs = timed.mapNotNull { it.rtf }
        fun mean(of: List<Sample>) = figure(of.mapNotNull { it.rtf }.average(), "")
        val rows = LinkedHashMap<String, Row>()
        rows["rtf_first_min"] = if (isLong) mean(timed.filter { it.t <= MINUTE_S }) else notAvailable("", short)
        rows["rtf_last_min"] = if (isLong) mean(timed.filter { it.t > ranS - MINUTE_S }) else notAvailable("", short)
        rows["rtf_cv"] = if (rtfs.size > 1) figure(variation(rtfs), "") else notAvailable("", "fewer than two seconds")
        val throttled = samples.firstOrNull { it.reading.thermalStatus >= THROTTLED_FROM }
        rows["throttled_at_s"] = throttled?.let { figure(it.t, "s", "PowerManager's thermal status") }
            ?: notAvailable("s", "it was not throttled")
        val degrees = samples.mapNotNull { it.reading.batteryC }
        for ((name, value) in listOf(
            "temp_start_c" to degrees.firstOrNull(),
            "temp_end_c" to degrees.lastOrNull(),
            "temp_max_c" to degrees.maxOrNull(),
        )) {
            rows[name] = value?.let { figure(it, "C", BATTERY) } ?: notAvailable("C", "no battery with a thermometer")
        }
        rows["rss_growth_mb_per_h"] = if (isLong) figure(growthMbPerH(samples), "MB/h") else notAvailable("MB/h", short)
        return rows + energyRows(samples, ranS, audioS, idleW) + batteryRow(samples)
    }

    private fun energyRows(samples: List<Sample>, ranS: Double, audioS: Double, idleW: Double?): Map<String, Row> {
        val watts = samples.mapNotNull { it.reading.batteryW }
        val why = when {
            ranS < MIN_BATTERY_S -> "${ranS.toInt()} s are too short for a battery: ${MIN_BATTERY_S.toInt()} s needed"
            watts.size < samples.size -> "the phone was plugged in, or does not tell its current"
            idleW == null -> "what the idle phone takes was not measured"
            else -> null
        }
        if (why != null) return ENERGY_ROWS.mapValues { (_, unit) -> notAvailable(unit, why) }
        val source = "measured: $BATTERY"
        val rawMj = 1000 * watts.average() * ranS / audioS
        val netMj = 1000 * maxOf(0.0, watts.average() - idleW!!) * ranS / audioS
        val volts = samples.mapNotNull { it.reading.batteryV }.average()
        val values = listOf(netMj, rawMj, netMj, netMj / volts) // J/s = Wh/h
        return ENERGY_ROWS.entries.zip(values).associate { (row, value) -> row.key to figure(value, row.value, source) }
    }

    private fun batteryRow(samples: List<Sample>): Map<String, Row> {
        val levels = samples.mapNotNull { it.reading.batteryPercent }
        val used = levels.firstOrNull()?.let { figure((it - levels.last()).toDouble(), "%", BATTERY) }
        return mapOf("battery_used_percent" to (used ?: notAvailable("%", "no battery")))
    }

    /** What the phone takes while this app does nothing; null where it can't be told. */
    private fun idleWatts(): Double? {
        watch(Progress.Idle)
        val watts = List(IDLE_S) {
            if (isStopped()) throw BenchmarkStopped()
            sleep(1000)
            device.read().batteryW
        }
        return if (null in watts) null else watts.filterNotNull().average()
    }

    private fun variation(values: List<Double>): Double {
        val mean = values.average()
        return Math.sqrt(values.sumOf { (it - mean) * (it - mean) } / (values.size - 1)) / mean
    }

    /** The slope of the resident memory, by least squares, from the second half on: first it fills up. */
    private fun growthMbPerH(samples: List<Sample>): Double {
        val late = samples.drop(samples.size / 2)
        val meanT = late.map { it.t }.average()
        val meanMb = late.map { it.rssMb }.average()
        val spread = late.sumOf { (it.t - meanT) * (it.t - meanT) }
        return if (spread == 0.0) 0.0 else 3600 * late.sumOf { (it.t - meanT) * (it.rssMb - meanMb) } / spread
    }

    private fun histogram(timesMs: List<Double>): JSONObject {
        val least = timesMs.min()
        val width = ((timesMs.max() - least) / BINS).takeIf { it > 0 } ?: 1e-3
        val counts = IntArray(BINS)
        for (time in timesMs) counts[minOf(BINS - 1, ((time - least) / width).toInt())]++
        return JSONObject()
            .put("edges_ms", JSONArray(List(BINS + 1) { least + it * width }))
            .put("counts", JSONArray(counts.toList()))
    }

    private fun sampleToJson(sample: Sample) = JSONObject()
        .put("t", sample.t)
        .put("rtf", sample.rtf ?: JSONObject.NULL)
        .put("rss_mb", sample.rssMb)
        .put("temp_c", sample.reading.batteryC ?: JSONObject.NULL)
        .put("freq_mhz", JSONObject.NULL)
        .put("power_w", sample.reading.batteryW ?: JSONObject.NULL)
        .put("throttle_count", JSONObject.NULL)
        .put("thermal_status", sample.reading.thermalStatus)
}
