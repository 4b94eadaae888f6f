package earshot.app

import android.Manifest
import android.content.pm.PackageManager
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner

private val SOURCES = File("android_demo/app/src/main")

/** What the package asks for and holds. */
@RunWith(RobolectricTestRunner::class)
class PackagingTest {
    private fun files(folder: String, extension: String) =
        File(SOURCES, folder).walk().filter { it.extension == extension }.toList()

    @Test
    fun `the app asks for the microphone and nothing else, the network least of all`() {
        val asked = app.packageManager.getPackageInfo(app.packageName, PackageManager.GET_PERMISSIONS)
        assertEquals(listOf(Manifest.permission.RECORD_AUDIO), asked.requestedPermissions.toList())
    }

    @Test
    fun `text that people read is in the resources`() {
        val attribute = Regex("""android:(text|hint|contentDescription|title|label)="(?!@)[^"]+"""")
        val call = Regex("""(\.text = |setText\(|setTitle\(|\.hint = |contentDescription = )"""")
        val literal = files("res", "xml").filter { attribute.containsMatchIn(it.readText()) } +
            files("kotlin", "kt").filter { call.containsMatchIn(it.readText()) }
        assertEquals(emptyList<File>(), literal)
    }

    @Test
    fun `every string is used`() {
        val used = (files("kotlin", "kt") + files("res", "xml") + File(SOURCES, "AndroidManifest.xml"))
            .joinToString("\n") { it.readText() }
        val named = Regex("""<string(?:-array)? name="(\w+)"""").findAll(File(SOURCES, "res/values/strings.xml").readText())
        val unused = named.map { it.groupValues[1] }.filterNot { name ->
            Regex("""(R\.(string|array)\.|@string/)$name\b""").containsMatchIn(used)
        }
        assertEquals(emptyList<String>(), unused.toList())
    }

    @Test
    fun `every colour has one for the night`() {
        fun names(folder: String) = Regex("""<color name="(\w+)"""")
            .findAll(File(SOURCES, "res/$folder/colors.xml").readText()).map { it.groupValues[1] }.toSet()
        assertEquals(names("values"), names("values-night"))
    }

    @Test
    fun `the built-in model is that of the repository`() {
        val packed = app.assets.list("models/en")!!.toSet()
        assertEquals(File("asr/models/en").list()!!.toSet(), packed)
        val unpacked = app.models.path(null)
        for (name in packed) {
            assertTrue(name, File(unpacked, name).readBytes().contentEquals(File("asr/models/en", name).readBytes()))
        }
    }
}
