"""The sockets that only this extension has."""

from comfy_api.latest import io

Adapter = io.Custom("FANTASYID_ADAPTER")
FaceEncoder = io.Custom("FANTASYID_FACE_ENCODER")
Deca = io.Custom("FANTASYID_DECA")
Face = io.Custom("FANTASYID_FACE")
Geometry = io.Custom("FANTASYID_GEOMETRY")
FaceTokens = io.Custom("FANTASYID_FACE_TOKENS")
Identity = io.Custom("FANTASYID_IDENTITY")
FaceLandmarks = io.Custom("FACE_LANDMARKS")  # the host's MediaPipe nodes

CATEGORY = "FantasyID"
