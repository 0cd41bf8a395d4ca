"""What a request may hold, field by field. The description of a field is also what an error says is expected."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from fleetwatch import topics
from fleetwatch.avro_check import FIRST_MS, LAST_MS
from fleetwatch.records import CameraDetection, Record, SensorReading, to_millis

MAX_TEXT: Final = 200
"""Characters of a name; with it no event comes near what the pipeline refuses as too large."""
_INT64: Final = 2**63


def _to_millis(value: object) -> object:
    """Take ISO 8601 with its zone, or milliseconds since 1970; raises ValueError for all else."""
    if isinstance(value, str):
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError("a time without its zone")
        return to_millis(time)
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Int64 = Annotated[int, Field(ge=-_INT64, lt=_INT64)]
EventTime = Annotated[
    int,
    Field(ge=FIRST_MS, le=LAST_MS),
    BeforeValidator(_to_millis),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]}),
]

_NAME: Final = f"text of 1 to {MAX_TEXT} characters without U+0000"
_TEXT: Final = f"text of at most {MAX_TEXT} characters without U+0000"
_TIME: Final = (
    "a time with its zone, such as 2026-01-31T12:00:00Z, or whole milliseconds since 1970; the arrival when left out"
)
_SEQ: Final = "a whole number of 64 bits that counts up per device; assigned from the clock when left out"


class Incoming(BaseModel):
    """Base of what devices send. Nothing is converted: a number in quotes is refused."""

    model_config = ConfigDict(strict=True, extra="forbid")

    RECORD: ClassVar[type[Record]]
    TOPIC: ClassVar[str]
    event_time: EventTime | None = Field(None, description=_TIME)
    seq: Int64 | None = Field(None, description=_SEQ)

    @property
    def device(self) -> str:
        """Whose event it is: the key on Kafka."""
        raise NotImplementedError

    def row(self, event_ms: int, seq: int) -> dict[str, Any]:
        """Return the record's fields as plain values, with what was left out filled in."""
        return {**self.__dict__, "event_time": event_ms, "seq": seq}


class Reading(Incoming):
    """One measurement of one channel of one device."""

    RECORD = SensorReading
    TOPIC = topics.READINGS
    device_id: Name = Field(description=f"{_NAME}: the device, unique in the fleet", examples=["boiler-1"])
    sensor_type: Text = Field(description=f"{_TEXT}: what kind of sensor it is", examples=["temperature"])
    site: Text = Field(description=f"{_TEXT}: where it stands", examples=["cellar"])
    value: Number = Field(description="a finite number", examples=[58.2])
    unit: Text = Field(description=f"{_TEXT}: the unit of the value, UCUM where there is one", examples=["Cel"])
    quality: Literal["GOOD", "UNCERTAIN", "BAD"] = Field("GOOD", description="GOOD, UNCERTAIN or BAD")

    @property
    def device(self) -> str:
        """Whose event it is: the key on Kafka."""
        return self.device_id


class Box(BaseModel):
    """Where in the frame."""

    model_config = ConfigDict(strict=True, extra="forbid")

    x: Number = Field(description="a finite number: left edge, fraction of the frame's width", examples=[0.4])
    y: Number = Field(description="a finite number: top edge, fraction of the frame's height", examples=[0.3])
    width: Number = Field(description="a finite number: fraction of the frame's width", examples=[0.1])
    height: Number = Field(description="a finite number: fraction of the frame's height", examples=[0.2])


class Detection(Incoming):
    """One object seen by one camera."""

    RECORD = CameraDetection
    TOPIC = topics.DETECTIONS
    camera_id: Name = Field(description=f"{_NAME}: the camera, unique in the fleet", examples=["gate-cam"])
    site: Text = Field(description=f"{_TEXT}: where it stands", examples=["cellar"])
    label: Text = Field(description=f"{_TEXT}: what was seen", examples=["person"])
    confidence: Number = Field(description="a finite number, 0..1", examples=[0.9])
    box: Box = Field(description="an object with x, y, width and height")
    track_id: Int64 | None = Field(None, description="a whole number of 64 bits: the same object in several frames")

    @property
    def device(self) -> str:
        """Whose event it is: the key on Kafka."""
        return self.camera_id

    def row(self, event_ms: int, seq: int) -> dict[str, Any]:
        """Return the record's fields as plain values, with what was left out filled in."""
        return {**self.__dict__, "event_time": event_ms, "seq": seq, "box": self.box.__dict__}


def expected(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Return what belongs at a place of a model, in words; ``()`` is the model itself."""
    for name in place:
        field = model.model_fields.get(str(name))
        if field is None:
            return f"no such field: there are {_names(model)}"
        text = field.description or ""
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return text
        model = field.annotation
    return text if place else f"an object with {_names(model)}"


def _names(model: type[BaseModel]) -> str:
    """Return the fields' names, those that are needed first."""
    fields = model.model_fields
    return ", ".join(sorted(fields, key=lambda name: not fields[name].is_required()))
