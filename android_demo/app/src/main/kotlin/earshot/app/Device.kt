package earshot.app

import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager

/** What the phone's sensors say now; null where it has none. */
data class Reading(
    val batteryC: Double?,
    val batteryW: Double?, // that the battery gives; null while it is charged
    val batteryV: Double?,
    val batteryPercent: Int?,
    val thermalStatus: Int, // PowerManager.THERMAL_STATUS_*
)

/** The phone under a benchmark. */
interface Device {
    /** System, version, architecture. */
    val platform: String

    /** The chip and the phone around it. */
    val processor: String

    fun read(): Reading
}

/** This phone. */
class AndroidDevice(private val context: Context) : Device {
    override val platform = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT}), ${Build.SUPPORTED_ABIS.first()}"
    override val processor: String
        get() {
            val chip = if (Build.VERSION.SDK_INT >= 31) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else Build.HARDWARE
            return "$chip, ${Build.MANUFACTURER} ${Build.MODEL}"
        }

    override fun read(): Reading {
        // A sticky broadcast: it is there at once, and nothing is registered.
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        fun extra(name: String): Int? = battery?.getIntExtra(name, -1)?.takeIf { it >= 0 }
        val volts = extra(BatteryManager.EXTRA_VOLTAGE)?.let { it / 1e3 }
        val isCharged = extra(BatteryManager.EXTRA_PLUGGED) != 0
        val percent = extra(BatteryManager.EXTRA_LEVEL)?.let { level -> extra(BatteryManager.EXTRA_SCALE)?.let { 100 * level / it } }
        return Reading(
            batteryC = extra(BatteryManager.EXTRA_TEMPERATURE)?.let { it / 10.0 },
            batteryW = if (isCharged || volts == null) null else amperes()?.let { it * volts },
            batteryV = volts,
            batteryPercent = percent,
            thermalStatus = context.getSystemService(PowerManager::class.java).currentThermalStatus,
        )
    }

    /** The sign of a discharge differs between phones, so it isn't looked at. */
    private fun amperes(): Double? {
        val manager = context.getSystemService(BatteryManager::class.java)
        val microamperes = manager.getIntProperty(BatteryManager.BATTERY_PROPERTY_CURRENT_NOW)
        return if (microamperes == 0 || microamperes == Int.MIN_VALUE) null else Math.abs(microamperes / 1e6)
    }
}
