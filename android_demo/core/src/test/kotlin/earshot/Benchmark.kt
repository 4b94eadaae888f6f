package earshot

import ai.onnxruntime.OrtEnvironment
import java.io.File
import org.json.JSONObject

/**
 * Time per chunk on one thread, as tests/chunk_times.py measures Python's: `make bench-android` runs
 * both. A block of one chunk at a time, from samples to events; the first 20 s of audio don't count.
 */
fun main(arguments: Array<String>) {
    val bundle = File(arguments.getOrElse(0) { "asr/models/en" })
    val chunkMs = arguments.getOrElse(1) { "320" }.toInt()
    val seconds = arguments.getOrElse(2) { "60" }.toInt()
    val speech = recordings().values.reduce { before, part -> before + part }
    load(bundle, chunkMs = chunkMs).use { recognizer ->
        val stream = recognizer.stream()
        val block = ShortArray(chunkMs * 16)
        val warmUp = 20_000 / chunkMs
        val times = DoubleArray(warmUp + 1000 * seconds / chunkMs) { number ->
            for (i in block.indices) block[i] = speech[(number * block.size + i) % speech.size]
            val started = System.nanoTime()
            stream.accept(block)
            (System.nanoTime() - started) / 1e6
        }.drop(warmUp).sorted()
        val row = JSONObject()
            .put("runtime", "jvm")
            .put("onnxruntime", OrtEnvironment.getEnvironment().version)
            .put("precision", recognizer.precision)
            .put("chunk_ms", chunkMs)
            .put("chunks", times.size)
            .put("p50_ms", round(times[times.size / 2], 3))
            .put("mean_ms", round(times.average(), 3))
            .put("p95_ms", round(times[times.size * 95 / 100], 3))
        println(row)
        stream.close()
    }
}
