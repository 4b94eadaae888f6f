package earshot.app

import android.content.Context
import android.os.PowerManager

/** What [earshot.Stream.heat] is at each PowerManager.THERMAL_STATUS_*, from NONE to SHUTDOWN. */
private val FACTORS = doubleArrayOf(1.0, 1.25, 1.5, 2.0, 4.0, 8.0, 8.0)

/** How dear computing is to be taken for by the governor at a thermal status. */
fun heatOf(thermalStatus: Int): Double = FACTORS[thermalStatus.coerceIn(FACTORS.indices)]

/**
 * The thermal state of the phone. [onChange] is called in the main thread. Some phones change it without
 * telling, so it is also [poll]ed.
 */
class Heat(context: Context, private val onChange: (Int) -> Unit) : AutoCloseable {
    private val power = context.getSystemService(PowerManager::class.java)
    private val listener = PowerManager.OnThermalStatusChangedListener { onChange(it) }

    init {
        power.addThermalStatusListener(listener)
    }

    /** PowerManager.THERMAL_STATUS_* now. */
    fun poll(): Int = power.currentThermalStatus

    override fun close() = power.removeThermalStatusListener(listener)
}
