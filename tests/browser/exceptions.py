"""What the viewer does not show of the objects there are, or not as DICOM has it, and why."""

NO_PICTURE = {
    "1.2.840.10008.5.1.4.1.1.6": "the viewer knows no retired SOP Class",
    "1.2.840.10008.5.1.4.1.1.11.1": "a presentation state is no picture, and the viewer applies none",
    "1.2.840.10008.5.1.4.1.1.67": "a real world value mapping is no picture",
    "1.2.840.10008.5.1.4.1.1.88.59": "a key object selection is a list, for which the viewer has no viewport",
    "1.2.840.10008.5.1.4.1.1.91.1": "bulk annotations are drawn by no viewport of this version",
    "1.2.840.10008.5.1.4.1.1.481.5": "a plan is no picture",
    "1.2.840.10008.5.1.4.1.1.481.8": "a plan is no picture",
    "1.2.3.4.5.6.7.8.9": "nobody knows this SOP Class",
}
"""By SOP Class: the viewer itself says that it cannot show these, and the test holds it to that."""

NOT_SHOWN = {
    "corpus/cr/RG1_J2KI.dcm": "its Pixel Spacing is 0: in the viewer it has no size",
    "corpus/us/gdcm-US-ALOKA-16.dcm": "the viewer reads no segmented palette, which is the only one it has",
    "corpus/us/gdcm-US-ALOKA-16_big.dcm": "the viewer reads no segmented palette, which is the only one it has",
    "corpus/broken/JPEG2000-embedded-sequence-delimiter.dcm": "its codestream is 250 bytes that no decoder opens",
    "corpus/broken/MR_truncated.dcm": "it ends before its last row",
    "corpus/broken-made/frames_mismatch.dcm": "it says that it has 1000 frames, and has one",
    "corpus/broken-made/rows_mismatch.dcm": "it has fewer pixels than rows and columns",
    "corpus/broken-made/truncated_in_pixels.dcm": "it ends before its last row",
    "corpus/seg/seg_image_ct_binary_fractional.dcm": "the viewer says that it takes no fractional segmentation",
    "corpus/seg/seg_image_ct_true_fractional.dcm": "the viewer says that it takes no fractional segmentation",
    "corpus/seg/seg_image_cr_binary.dcm": "the viewer breaks on a segmentation of a projection: no Pixel Measures",
    "corpus/sr/sr_document_with_multiple_groups.dcm": "the viewer opens an empty viewport for it and says nothing",
    "corpus/wsm/sm_annotations.dcm": "the viewer takes bulk annotations for a slide, and its shader does not compile",
    "corpus/wsm/sm_image_grayscale.dcm": "the viewer draws no slides in grey",
    "corpus/wsm/sm_image_grayscale_reversed.dcm": "the viewer draws no slides in grey",
    "corpus/sr/sr-example__seg.dcm": "the images it is of are not in the corpus",
    "corpus/sr/sr-example__sr.dcm": "the images it measures are not in the corpus",
    **dict.fromkeys(
        ("corpus/pydicom/SC_jpeg_no_color_transform.dcm", "corpus/pydicom/SC_rgb_jpeg.dcm"),
        "the viewer undoes a transform of colours that this JPEG was made without: white becomes pink",
    ),
    **dict.fromkeys(
        ("corpus/pydicom/liver_1frame.dcm", "corpus/pydicom/liver_expb_1frame.dcm"),
        "it has one frame and says what three are of: the viewer asks for all three",
    ),
    "corpus/pydicom/SC_ybr_full_422_uncompressed.dcm": "the viewer breaks on native pixels that share their chroma",
    "corpus/pydicom/test-SR.dcm": "one of its content items has no name, on which the viewer breaks",
    "corpus/pydicom/rtstruct.dcm": "it lacks the Contour Image Sequence (Type 1), so the viewer makes nothing of it",
    **dict.fromkeys(
        (
            f"corpus/wsm/seg_image_sm_{name}.dcm"
            for name in (
                "control",
                "control_labelmap",
                "control_labelmap_palette_color",
                "dots",
                "dots_tiled_full",
                "numbers",
            )
        ),
        "the mode for slides has no segmentations, and no other mode shows slides",
    ),
    "corpus/video/mpeg2.dcm": "no browser plays MPEG-2, and the viewer takes it for a stack of images",
}
"""By file: what does not appear, and why. These are left out, and not looked for."""
OTHERWISE = {
    "corpus/enhanced/eCT_Supplemental.dcm": "the viewer shows the grey values, without the supplemental palette",
    **dict.fromkeys(
        (
            f"corpus/{name}{frames}.dcm"
            for name in ("sc/SC_rgb_16bit", "sc/SC_rgb_32bit", "sc/SC_rgb_expb_16bit", "sc/SC_rgb_expb_32bit",
                         "pydicom/SC_rgb_rle_16bit", "pydicom/SC_rgb_rle_32bit")
            for frames in ("", "_2frame")
        ),
        "the viewer has colours of 8 bits only: what is brighter than 255 is white",
    ),
}  # fmt: skip
"""By file: what appears in other colours than DICOM says, and why."""
