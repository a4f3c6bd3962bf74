//! What Home Assistant is told: one device with all its sensors.
//!
//! The format is that of its MQTT integration, "device discovery payload", from Home Assistant 2024.11 on.

use serde_json::{Map, Value, json};

use super::topics::{Counted, Topics};

/// Who this eyas is for Home Assistant.
#[derive(Debug)]
pub(super) struct HomeAssistant {
    /// The topic below which it looks for devices.
    prefix: String,
    /// Of the device, and the begin of all unique ids.
    id: String,
}

impl HomeAssistant {
    /// The eyas called `name` whose topics begin with `topics`, for the one that looks below `prefix`.
    pub fn new(prefix: &str, topics: &str, name: &str) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let id = format!("{topics}_{name}").replace(|c| !is_plain(c), "_");
        Self {
            prefix: prefix.into(),
            id,
        }
    }

    /// Where it says that it has started, with `online`.
    pub fn birth_topic(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// Where devices are described.
    pub fn topic(&self) -> String {
        format!("{}/device/{}/config", self.prefix, self.id)
    }

    /// The description, in JSON. A sensor whose key is `forgotten` is removed.
    pub fn device(
        &self,
        name: &str,
        topics: &Topics,
        counted: &[Counted],
        forgotten: &[String],
    ) -> String {
        let mut components = diagnostics(&topics.status());
        for counted in counted {
            let [count, presence] = component_ids(&counted.key);
            components.insert(count, count_sensor(topics, counted));
            components.insert(presence, presence_sensor(topics, counted));
        }
        for (id, component) in &mut components {
            component["unique_id"] = json!(format!("{}_{id}", self.id));
        }
        for key in forgotten {
            let [count, presence] = component_ids(key);
            components.insert(count, json!({"platform": "sensor"}));
            components.insert(presence, json!({"platform": "binary_sensor"}));
        }
        let version = env!("CARGO_PKG_VERSION");
        let device = json!({
            "device": {
                "identifiers": [self.id],
                "name": name,
                "manufacturer": "eyas",
                "model": "object detector",
                "sw_version": version,
            },
            "origin": {"name": "eyas", "sw_version": version},
            "availability_topic": topics.availability(),
            "components": components,
        });
        device.to_string()
    }
}

/// Of the sensors of a count's key: how many there are, and whether there is one.
fn component_ids(key: &str) -> [String; 2] {
    let id = key.replace('/', "_");
    let presence = format!("{id}_present");
    [id, presence]
}

fn count_sensor(topics: &Topics, counted: &Counted) -> Value {
    json!({
        "platform": "sensor",
        "name": format!("{} count", counted.words),
        "state_topic": topics.below(&counted.key),
        "state_class": "measurement",
    })
}

fn presence_sensor(topics: &Topics, counted: &Counted) -> Value {
    json!({
        "platform": "binary_sensor",
        "name": counted.words,
        "device_class": "occupancy",
        "state_topic": topics.below(&counted.key),
        "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
    })
}

fn diagnostics(status: &str) -> Map<String, Value> {
    let components = json!({
        "fps": {
            "platform": "sensor",
            "name": "Frame rate",
            "unit_of_measurement": "fps",
            "suggested_display_precision": 1,
            "state_class": "measurement",
            "value_template": "{{ value_json.fps }}",
        },
        "inference": {
            "platform": "sensor",
            "name": "Inference time",
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "suggested_display_precision": 1,
            "state_class": "measurement",
            "value_template": "{{ value_json.inference.p50_ms }}",
        },
        "temperature": {
            "platform": "sensor",
            "name": "Temperature",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "suggested_display_precision": 0,
            "state_class": "measurement",
            "value_template": "{{ value_json.system.temperature_celsius }}",
        },
        "signal": {
            "platform": "binary_sensor",
            "name": "Camera signal",
            "device_class": "connectivity",
            "value_template": "{{ 'ON' if value_json.source.state == 'live' else 'OFF' }}",
        },
        "throttled": throttling_sensor("Throttled", "throttled"),
        "under_voltage": throttling_sensor("Under voltage", "under_voltage"),
    });
    let Value::Object(mut components) = components else {
        return Map::new();
    };
    for component in components.values_mut() {
        component["state_topic"] = json!(status);
        component["entity_category"] = json!("diagnostic");
    }
    components
}

/// Unknown where there is no firmware that says so.
fn throttling_sensor(name: &str, flag: &str) -> Value {
    let template = format!(
        "{{% set flags = value_json.system.throttling %}}\
         {{{{ ('ON' if flags.now.{flag} else 'OFF') if flags else 'None' }}}}"
    );
    json!({
        "platform": "binary_sensor",
        "name": name,
        "device_class": "problem",
        "value_template": template,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_sensors_for_its_health_and_two_for_each_count() {
        let home = HomeAssistant::new("ha", "site/nörd", "gate-1");
        assert_eq!(home.topic(), "ha/device/site_n_rd_gate-1/config");
        assert_eq!(home.birth_topic(), "ha/status");
        let topics = Topics::new("site/nörd", "gate-1");
        let counted = [
            Counted::label("traffic light"),
            Counted::in_zone("drive", "car"),
        ];
        let text = home.device("gate-1", &topics, &counted, &["count/sofa".into()]);
        let device: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            device["availability_topic"],
            "site/nörd/gate-1/availability"
        );
        let components = device["components"].as_object().unwrap();
        assert_eq!(components.len(), 6 + 2 * 3);
        let count = &components["count_traffic_light"];
        assert_eq!(count["name"], "traffic light count");
        assert_eq!(count["state_topic"], "site/nörd/gate-1/count/traffic_light");
        assert_eq!(count["unique_id"], "site_n_rd_gate-1_count_traffic_light");
        let present = &components["zone_drive_car_present"];
        assert_eq!(present["name"], "drive car");
        assert_eq!(present["platform"], "binary_sensor");
        assert_eq!(components["fps"]["state_topic"], "site/nörd/gate-1/status");
        let removed = json!({"platform": "sensor"});
        assert_eq!(components["count_sofa"], removed);
    }
}
