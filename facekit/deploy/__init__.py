"""A trained run put to use beside the homework: on one's own photographs, and without the kit.

Read recognise first (enrol, recognise, refuse), then export (one ONNX file with the preprocessing)
and demo_page (that file in a browser).
"""
