package earshot

import earshot.engines.NumpyArray
import earshot.engines.readNpz
import java.io.ByteArrayInputStream
import java.io.File
import java.util.zip.GZIPInputStream
import org.json.JSONArray
import org.json.JSONObject
import org.json.JSONTokener
import org.junit.jupiter.api.Assumptions.assumeTrue

/** What the tests read of the repository, which Surefire runs them in. */

val BUILT_IN = File("asr/models/en")
private val GOLDEN = File("data/golden")
private val EXACT = File("android_demo/build/exact") // make test-android writes it, where there is torch

/** The shipped weights in fp32; a test that asks for them is skipped where they are not. */
fun exactBundle(): Bundle {
    assumeTrue(EXACT.isDirectory, "no fp32 model in $EXACT: make setup, then make test-android")
    return openBundle(EXACT)
}

fun goldenArrays(name: String, vararg arrays: String): List<NumpyArray> =
    readNpz(File(GOLDEN, name).readBytes(), *arrays)

/** The golden vectors of a script: pairs of the script and of what Python made of it. */
fun goldenScripts(name: String): List<JSONObject> {
    val packed = File(GOLDEN, "scripts/$name.json.gz").readBytes()
    val text = GZIPInputStream(ByteArrayInputStream(packed)).use { String(it.readBytes()) }
    return objects(JSONTokener(text).nextValue() as JSONArray)
}

fun goldenStreams(): JSONObject = JSONObject(File(GOLDEN, "model/streams.json").readText())

/** The shipped recordings, 16 kHz, by name. */
fun recordings(): Map<String, ShortArray> {
    val names = goldenStreams().getJSONObject("references").keys().asSequence().toList()
    return names.zip(goldenArrays("model/recordings.npz", *names.toTypedArray())).associate { (name, array) ->
        name to array.longs().let { longs -> ShortArray(longs.size) { longs[it].toShort() } }
    }
}

fun objects(list: JSONArray): List<JSONObject> = List(list.length()) { list.getJSONObject(it) }

fun ints(list: JSONArray): IntArray = IntArray(list.length()) { list.getInt(it) }

fun doubles(list: JSONArray): DoubleArray = DoubleArray(list.length()) { list.getDouble(it) }

fun JSONObject.doubleOrNull(key: String): Double? = if (isNull(key)) null else getDouble(key)
