package earshot.app

import android.app.Application
import java.io.File

/** What the screens share, and what a test puts something else in place of. */
class EarshotApplication : Application() {
    var microphones: Microphones = Microphones { onSilenced -> openMicrophone(this, onSilenced) }
    val models: Models by lazy { Models(this) }
    val text: KeptText by lazy { KeptText(File(noBackupFilesDir, "text.txt")) }
    val settings: Settings by lazy { Settings(this) }
    var device: Device = AndroidDevice(this)
}
