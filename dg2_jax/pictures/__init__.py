"""Pictures in and out: files, masks, previews, upscaling."""
