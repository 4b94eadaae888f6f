package earshot.app

import ai.onnxruntime.OrtEnvironment
import earshot.Bundle
import earshot.MANIFEST_NAME
import earshot.bundleFiles
import java.security.MessageDigest
import java.time.Instant
import java.time.temporal.ChronoUnit
import org.json.JSONObject

private const val BENCH_SCHEMA_VERSION = 1
private const val VERSION = "0.1.0"

/** The head of a result that begins now: what was measured, with what and where; see asr/evaluation/envelope.py. */
fun describeRun(kind: String, bundle: Bundle, precision: String, chunkMs: Int, device: Device): JSONObject {
    val cpus = Runtime.getRuntime().availableProcessors()
    return JSONObject()
        .put("schema_version", BENCH_SCHEMA_VERSION)
        .put("kind", kind)
        .put("version", VERSION)
        .put("commit", JSONObject.NULL)
        .put("command", "benchmark of the Android app")
        .put("date", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString())
        .put(
            "machine",
            JSONObject()
                .put("platform", device.platform)
                .put("processor", device.processor)
                .put("cpus", cpus)
                .put("usable_cpus", cpus),
        )
        .put("engine", "onnxruntime ${OrtEnvironment.getEnvironment().version}")
        .put(
            "model",
            JSONObject()
                .put("name", bundle.name)
                .put("sha256", sha256(bundle))
                .put("parameters", bundle.model.parameters),
        )
        .put("precision", precision)
        .put("chunk_ms", chunkMs)
}

/** Rows as a result holds them. */
fun rowsToJson(rows: Map<String, Row>): JSONObject =
    rows.entries.fold(JSONObject()) { json, (name, row) -> json.put(name, row.toJson()) }

/** Of bundle.json, which holds the checksums of all other files. */
private fun sha256(bundle: Bundle): String {
    val manifest = bundleFiles(bundle.path).use { files -> files.open(MANIFEST_NAME).use { it.readBytes() } }
    return MessageDigest.getInstance("SHA-256").digest(manifest).joinToString("") { "%02x".format(it) }
}
