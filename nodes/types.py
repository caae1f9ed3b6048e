"""The sockets that only this extension has."""

from comfy_api.latest import io

Adapter = io.Custom("FANTASYID_ADAPTER")
FaceEncoder = io.Custom("FANTASYID_FACE_ENCODER")
Deca = io.Custom("FANTASYID_DECA")
Face = io.Custom("FANTASYID_FACE")
Geometry = io.Custom("FANTASYID_GEOMETRY")
FaceTokens = io.Custom("FANTASYID_FACE_TOKENS")
Identity = io.Custom("FANTASYID_IDENTITY")
LayerWeights = io.Custom("FANTASYID_LAYER_WEIGHTS")
Curve = io.Custom("CURVE")  # the host's, from its Curve Editor
FaceLandmarks = io.Custom("FACE_LANDMARKS")  # the host's MediaPipe nodes

CATEGORY = "FantasyID"
# An input of a type for which the frontend has a widget, shown as a socket alone.
SOCKET_ONLY = {"forceInput": True}
