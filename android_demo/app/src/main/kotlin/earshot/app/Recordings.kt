package earshot.app

import android.content.res.AssetManager
import earshot.engines.readNpz
import org.json.JSONObject

/** A recording at 16 kHz, and what is said in it. */
class Recording(val name: String, val samples: ShortArray, val text: String) {
    val seconds: Double get() = samples.size / 16_000.0
}

/** The recordings in the app: the samples of the repository, as the golden vectors keep them. */
fun readRecordings(assets: AssetManager): List<Recording> {
    val rows = assets.open("recordings/manifest.jsonl").use { it.reader().readLines() }.map(::JSONObject)
    val names = rows.map { it.getString("id") }
    val arrays = readNpz(assets.open("recordings/recordings.npz").use { it.readBytes() }, *names.toTypedArray())
    return rows.indices.map { number ->
        val samples = arrays[number].longs()
        Recording(names[number], ShortArray(samples.size) { samples[it].toShort() }, rows[number].getString("text"))
    }
}
