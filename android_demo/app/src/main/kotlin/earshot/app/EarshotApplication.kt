package earshot.app

import android.app.Application

/** What the screens share, and what a test puts something else in place of. */
class EarshotApplication : Application() {
    var microphones: Microphones = Microphones { onSilenced -> openMicrophone(this, onSilenced) }
    val models: Models by lazy { Models(this) }
    val settings: Settings by lazy { Settings(this) }
    var device: Device = AndroidDevice(this)
}
